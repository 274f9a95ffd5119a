"""Train on one particle, apply to another: a network learns the energy of electrons, and is applied to photons and pions.

    python examples/transfer_lcd.py --data data/lcd/files --out runs/transfer --epochs 6

Four steps, three of them pipelines that are run as they stand:

1. `transfer-prepare.yaml` mixes the samples, holds a fifth back, and writes the rest of the electrons as hits;
2. `transfer-feed.yaml` feeds them to the training below, each epoch in another order;
3. the network is written as ONNX, and asked the same question as in PyTorch;
4. `transfer-apply.yaml` applies it to all four particles and writes the report.

A training that was stopped goes on: weights and position are kept after every epoch (`training.pt`). Needs PyTorch with onnx.
"""

import argparse
import subprocess
import warnings
from pathlib import Path

import numpy as np
import torch
from feed_pyarrow import CALOSTREAM, Feed
from torch import nn
from torch.nn import functional as F

PIPELINES = Path(__file__).resolve().parent.parent / "pipelines"


class Energy(nn.Module):
    """GeV from the images of two calorimeters: a linear calibration of their sums, corrected by what convolutions see."""

    def __init__(self):
        super().__init__()
        self.calibration = nn.Parameter(torch.ones(2))
        self.ecal, self.hcal = nn.Conv3d(1, 4, 5, stride=3), nn.Conv3d(1, 4, (2, 2, 6), stride=(1, 1, 4))
        self.hidden, self.out = nn.Linear(4 * 7**3 + 4 * 4 * 4 * 14 + 2, 64), nn.Linear(64, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def calibrate(self, ecal, hcal, energy):
        """The calibration by least squares of relative errors, to begin with."""
        sums = np.stack([ecal.sum((1, 2, 3)), hcal.sum((1, 2, 3))], axis=1, dtype="f8") / energy[:, None]
        factors = np.linalg.lstsq(sums, np.ones(len(sums)), rcond=None)[0]
        self.calibration.data = torch.from_numpy(factors.astype("f4"))

    def forward(self, ecal, hcal):
        sums = torch.stack([ecal.sum((1, 2, 3)), hcal.sum((1, 2, 3))], 1) * self.calibration
        linear = sums.sum(1, keepdim=True)
        shares = sums / (linear.abs() + 1)
        # As shares of the whole, images of any energy look alike.
        images = [F.relu(conv((100 * image / (linear.abs() + 1)[:, :, None, None])[:, None])) for conv, image in
                  ((self.ecal, ecal * self.calibration[0]), (self.hcal, hcal * self.calibration[1]))]
        x = torch.cat([*(image.flatten(1) for image in images), shares], 1)
        return linear * (1 + self.out(F.relu(self.hidden(x))))


def loss(said, energy):
    """Squared errors in units of 20 %/sqrt(E) and 1 %, so that no energy outweighs the others."""
    return ((said[:, 0] - energy) ** 2 / (0.2**2 * energy + 0.01**2 * energy**2)).mean()


def run(pipeline, *settings):
    arguments = [word for setting in settings for word in ("--set", setting)]
    subprocess.run([CALOSTREAM, "run", PIPELINES / pipeline, *arguments], check=True)


def train(out, epochs):
    torch.manual_seed(2017)
    network = Energy()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    kept, begun, first = out / "training.pt", 0, True
    if kept.exists():
        before = torch.load(kept)
        network.load_state_dict(before["network"])
        optimizer.load_state_dict(before["optimizer"])
        begun, first = before["epoch"] + 1, False
    for epoch in range(begun, epochs):
        settings = ["--set", f"events={out}/events", "--set", f"out={out}/feed", "--epochs", epoch + 1, "--start", f"{epoch}:0", "--quiet"]
        losses = []
        for batch in Feed(PIPELINES / "transfer-feed.yaml", *settings):
            if first:
                network.calibrate(batch["ecal"], batch["hcal"], batch["energy"])
                first = False
            ecal, hcal, energy = (torch.from_numpy(batch[name].astype("f4", copy=False)) for name in ("ecal", "hcal", "energy"))
            wrong = loss(network(ecal, hcal), energy)
            optimizer.zero_grad()
            wrong.backward()
            optimizer.step()
            losses.append(wrong.item())
        torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, kept)
        print(f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.3f} over {len(losses)} batches", flush=True)
    return network.eval()


def export(network, path):
    """Writes the network as ONNX; its inputs and output have names, and the number of events is free."""
    images = torch.rand(2, 25, 25, 25), torch.rand(2, 5, 5, 60)
    names = {"input_names": ["ECAL", "HCAL"], "output_names": ["energy"]}
    free = {name: {0: "N"} for name in ("ECAL", "HCAL", "energy")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, images, path, dynamic_axes=free, opset_version=17, dynamo=False, **names)


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--data", default="data/lcd/files", type=Path, help="the folder of Ele*.h5, Gamma*.h5, Pi0*.h5 and ChPi*.h5")
    words.add_argument("--out", default="runs/transfer", type=Path)
    words.add_argument("--epochs", default=6, type=int)
    arguments = words.parse_args()
    out = arguments.out
    run("transfer-prepare.yaml", f"data={arguments.data}", f"out={out}/events")
    network = train(out, arguments.epochs)
    export(network, out / "energy.onnx")
    run("transfer-apply.yaml", f"events={out}/events", f"model={out}/energy.onnx", f"out={out}/report")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "The given NumPy array is not writable")
    main()
