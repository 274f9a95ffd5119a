#!/usr/bin/env python3
"""Trains the networks of the example pipelines on hits that calostream converted to Parquet, and writes them as ONNX.

    python examples/train_lcd.py --data runs/convert/events --out models --epochs 30

Three models, each reading ECAL (N, 25, 25, 25) and HCAL (N, 5, 5, 60) as they are in the files, GeV deposited, with every
scale inside the graph, so that a pipeline maps the columns and nothing else:

    linear.onnx   energy (N, 1) = A sum(ECAL) + B sum(HCAL), least squares on electrons: what a network has to beat
    energy.onnx   energy (N, 1): a small 3D convolutional network beside the sums of the layers, trained on electrons only
    classes.onnx  probabilities (N, 4) of electron, photon, pi0, pion: layers as channels of a 2D convolutional network

A row of the Parquet files has `sample`, `energy` (GeV) and the hits `ecal` and `hcal`: list<struct<cell, energy>>, with the
shape of the image in the field's metadata. The networks need torch, the baseline only numpy (`--only linear`). The graphs
are written with onnx.helper, and each is compared with torch on events that were not trained on before it is kept.
"""

import argparse
import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

CLASSES = ["electron", "photon", "pi0", "pion"]
ECAL, HCAL = (25, 25, 25), (5, 5, 60)
LAYERS = ECAL[2] + HCAL[2]
OPSET = 17


# Hits ----------------------------------------------------------------------------------------------------------------


@dataclass
class Hits:
    """The hits of many images: those of image i are offsets[i]..offsets[i + 1]."""

    shape: tuple
    offsets: np.ndarray
    cells: np.ndarray
    energies: np.ndarray

    def __len__(self):
        return len(self.offsets) - 1

    def event(self):
        """The image that each hit is in."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def layer_sums(self):
        """Energy in each layer (the last axis) of each image, summed in double precision."""
        layers = self.shape[-1]
        where = self.event() * layers + self.cells % layers
        return np.bincount(where, weights=self.energies, minlength=len(self) * layers).reshape(len(self), layers)

    def dense(self, rows):
        """The images of these rows as a dense float32 array."""
        size = math.prod(self.shape)
        images = np.zeros((len(rows), size), np.float32)
        for image, row in zip(images, rows):
            hits = slice(self.offsets[row], self.offsets[row + 1])
            image[self.cells[hits]] = self.energies[hits]
        return images.reshape(len(rows), *self.shape)


@dataclass
class Events:
    sample: np.ndarray
    energy: np.ndarray
    ecal: Hits
    hcal: Hits


def hits_of(column, field):
    """The hits of a column of a table."""
    shape = tuple(json.loads(field.metadata[b"calostream.shape"]))
    offsets, cells, energies = [np.zeros(1, np.int64)], [], []
    for chunk in column.chunks:
        flat = chunk.flatten()
        offsets.append(np.cumsum(chunk.value_lengths().to_numpy(zero_copy_only=False)) + offsets[-1][-1])
        cells.append(flat.field("cell").to_numpy(zero_copy_only=False).astype(np.int32))
        energies.append(flat.field("energy").to_numpy(zero_copy_only=False).astype(np.float32))
    return Hits(shape, np.concatenate(offsets), np.concatenate(cells), np.concatenate(energies))


def read(data, samples, at_most):
    """The events of these samples in all Parquet files below a folder, at most so many of each sample."""
    files = sorted(Path(data).rglob("*.parquet")) if Path(data).is_dir() else [Path(data)]
    if not files:
        raise SystemExit(f"no Parquet file below {data}")
    columns = ["sample", "energy", "ecal", "hcal"]
    left = dict.fromkeys(samples, at_most)
    tables = []
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=8192, columns=columns):
            names = np.array(batch.column("sample").cast(pa.string()).to_pylist())
            keep = np.zeros(len(names), bool)
            for name in samples:
                chosen = np.flatnonzero(names == name)[: left[name]]
                left[name] -= len(chosen)
                keep[chosen] = True
            if keep.any():
                rows = pa.Table.from_batches([batch]).select(columns)
                tables.append(rows.set_column(0, "sample", pa.array(names)).filter(pa.array(keep)))
        if not any(left.values()):
            break
    if not tables:
        raise SystemExit(f"no event of {', '.join(samples)} below {data}")
    table = pa.concat_tables(tables)
    ecal, hcal = (hits_of(table.column(name), table.schema.field(name)) for name in ("ecal", "hcal"))
    if (ecal.shape, hcal.shape) != (ECAL, HCAL):
        raise SystemExit(f"the images are {ecal.shape} and {hcal.shape}; these networks are made for {ECAL} and {HCAL}")
    sample = np.array([samples.index(name) for name in table.column("sample").to_pylist()])
    return Events(sample, table.column("energy").to_numpy().astype(np.float64), ecal, hcal)


# Graphs --------------------------------------------------------------------------------------------------------------


class Graph:
    """An ONNX graph under construction; every method adds nodes and gives the name of what comes out."""

    def __init__(self, name, about):
        self.name, self.about, self.nodes, self.initializers = name, about, [], []

    def value(self, array, dtype=np.float32):
        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def node(self, kind, *inputs, output=None, **attributes):
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def sums(self, x, axes):
        return self.node("ReduceSum", x, self.value(axes, np.int64), keepdims=0)

    def linear(self, x, weight, bias, output=None):
        return self.node("Gemm", x, self.value(weight), self.value(bias), transB=1, output=output)

    def relu_pool(self, x, axes):
        return self.node("MaxPool", self.node("Relu", x), kernel_shape=[2] * axes, strides=[2] * axes)

    def save(self, path, output, width):
        tensor = lambda name, row: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *row])
        inputs = [tensor("ECAL", ECAL), tensor("HCAL", HCAL)]
        graph = helper.make_graph(self.nodes, self.name, inputs, [tensor(output, [width])], self.initializers, doc_string=self.about)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="calostream")
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def linear_graph(path, a, b):
    g = Graph("linear", "energy = A sum(ECAL) + B sum(HCAL)")
    parts = [g.node("Mul", g.sums(name, [1, 2, 3]), g.value(factor)) for name, factor in (("ECAL", a), ("HCAL", b))]
    g.node("Unsqueeze", g.node("Add", *parts), g.value([1], np.int64), output="energy")
    g.save(path, "energy", 1)


def layer_sums(g):
    return g.node("Concat", g.sums("ECAL", [1, 2]), g.sums("HCAL", [1, 2]), axis=1)


def energy_graph(path, w):
    """The graph of Energy (below) with these weights."""
    g = Graph("energy", "The energy of an electromagnetic shower in GeV, trained on electrons")
    images = []
    for name, conv in (("ECAL", "conv_ecal"), ("HCAL", "conv_hcal")):
        x = g.node("Mul", name, g.value(w[f"scale_{name.lower()}"]))
        x = g.node("Unsqueeze", x, g.value([1], np.int64))
        x = g.node("Conv", x, g.value(w[f"{conv}.weight"]), g.value(w[f"{conv}.bias"]))
        images.append(g.node("Flatten", g.relu_pool(x, 3)))
    sums = g.node("Div", g.node("Sub", layer_sums(g), g.value(w["mean"])), g.value(w["std"]))
    x = g.node("Relu", g.linear(g.node("Concat", *images, sums, axis=1), w["hidden.weight"], w["hidden.bias"]))
    x = g.node("Add", g.linear(x, w["out.weight"], w["out.bias"]), g.linear(sums, w["skip.weight"], w["skip.bias"]))
    g.node("Mul", x, g.value(100.0), output="energy")
    g.save(path, "energy", 1)


def classes_graph(path, w):
    """The graph of Classes (below) with these weights."""
    g = Graph("classes", "Probabilities of " + ", ".join(CLASSES))

    def logarithm(x, scale):
        return g.node("Log", g.node("Add", g.node("Mul", g.node("Relu", x), g.value(scale)), g.value(1.0)))

    x = g.node("Transpose", logarithm("ECAL", w["scale_ecal"]), perm=[0, 3, 1, 2])
    for conv in ("conv1", "conv2"):
        x = g.relu_pool(g.node("Conv", x, g.value(w[f"{conv}.weight"]), g.value(w[f"{conv}.bias"])), 2)
    towers = g.node("Flatten", g.sums("HCAL", [3]))
    sums = [logarithm(layer_sums(g), w["scale_layers"]), logarithm(towers, w["scale_hcal"])]
    x = g.node("Concat", g.node("Flatten", x), *sums, axis=1)
    x = g.node("Relu", g.linear(x, w["hidden.weight"], w["hidden.bias"]))
    g.node("Softmax", g.linear(x, w["out.weight"], w["out.bias"]), axis=1, output="probabilities")
    g.save(path, "probabilities", len(CLASSES))


# What is fitted without torch ----------------------------------------------------------------------------------------


def fit_linear(events):
    """A and B of E = A sum(ECAL) + B sum(HCAL), by least squares."""
    sums = np.stack([events.ecal.layer_sums().sum(1), events.hcal.layer_sums().sum(1)], axis=1)
    return np.linalg.lstsq(sums, events.energy, rcond=None)[0]


def expected_sigma(energy):
    """20 %/sqrt(E) and 1 %, in GeV: the unit in which an error counts, so that no energy outweighs the others."""
    return np.sqrt(0.2**2 * energy + 0.01**2 * energy**2)


def fit_layers(sums, energy):
    """Mean and standard deviation of the layer sums, and the weights of a linear calibration of the standardised layers."""
    mean, std = sums.mean(0), np.maximum(sums.std(0), 1e-6)
    standard = np.column_stack([(sums - mean) / std, np.ones(len(sums))])
    weight = 1 / expected_sigma(energy)
    ridge = 1e-4 * np.sqrt((weight**2).sum()) * np.eye(standard.shape[1])
    ridge[-1, -1] = 0
    left, right = np.vstack([standard * weight[:, None], ridge]), np.concatenate([energy * weight, np.zeros(len(ridge))])
    solution = np.linalg.lstsq(left, right, rcond=None)[0]
    return mean, std, solution[:-1], solution[-1]


def run(path, events, rows):
    """What the model at `path` says of these rows, by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    parts = []
    for some in np.array_split(rows, max(1, len(rows) // 256)):
        parts.append(session.run(None, {"ECAL": events.ecal.dense(some), "HCAL": events.hcal.dense(some)})[0])
    return np.concatenate(parts)


def resolution_table(energy, predicted):
    """Mean and spread of (true - predicted) / true in bins of the true energy."""
    lines = ["| energy [GeV] | events | mean [%] | sigma [%] |", "|---|---|---|---|"]
    relative = (energy - predicted) / energy
    for low in np.arange(10, 510, 50):
        chosen = relative[(energy >= low) & (energy < low + 50)]
        if len(chosen) > 1:
            lines.append(f"| {low} to {low + 50} | {len(chosen)} | {100 * chosen.mean():.2f} | {100 * chosen.std():.2f} |")
    return "\n".join(lines)


# The networks --------------------------------------------------------------------------------------------------------


def train(what, events, arguments):
    """Trains `energy` or `classes`; gives the weights, the rows that were held out and torch's answers for the first of them."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(arguments.seed)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    class OnDevice:
        """Hits on the device, made dense batch by batch."""

        def __init__(self, hits):
            self.shape, self.size = hits.shape, math.prod(hits.shape)
            self.offsets = torch.from_numpy(hits.offsets).to(device)
            self.cells = torch.from_numpy(hits.cells).to(device)
            self.energies = torch.from_numpy(hits.energies).to(device)

        def dense(self, rows):
            start = self.offsets[rows]
            length = self.offsets[rows + 1] - start
            image = torch.repeat_interleave(torch.arange(len(rows), device=device), length)
            before = torch.cumsum(length, 0) - length
            hit = torch.arange(len(image), device=device) + (start - before)[image]
            dense = torch.zeros(len(rows) * self.size, device=device)
            dense[image * self.size + self.cells[hit].long()] = self.energies[hit]
            return dense.view(len(rows), *self.shape)

    class Network(nn.Module):
        def constant(self, name, value):
            self.register_buffer(name, torch.as_tensor(np.asarray(value, np.float32)))

    class Energy(Network):
        """3D convolutions of both calorimeters and the sums of the layers; a linear calibration of the layers beside it."""

        def __init__(self, events, rows):
            super().__init__()
            sums = np.concatenate([events.ecal.layer_sums(), events.hcal.layer_sums()], axis=1)[rows]
            mean, std, weights, bias = fit_layers(sums, events.energy[rows])
            self.constant("mean", mean)
            self.constant("std", std)
            for name, hits in (("ecal", events.ecal), ("hcal", events.hcal)):
                self.constant(f"scale_{name}", 1 / max(float(np.sqrt(np.mean(hits.energies.astype(np.float64) ** 2))), 1e-6))
            self.conv_ecal, self.conv_hcal = nn.Conv3d(1, 3, 4), nn.Conv3d(1, 10, (2, 2, 6))
            self.hidden, self.out = nn.Linear(3 * 11**3 + 10 * 2 * 2 * 27 + LAYERS, 64), nn.Linear(64, 1)
            self.skip = nn.Linear(LAYERS, 1)
            with torch.no_grad():
                self.skip.weight.copy_(torch.from_numpy(weights[None, :] / 100))
                self.skip.bias.fill_(bias / 100)
                self.out.weight.zero_()
                self.out.bias.zero_()

        def forward(self, ecal, hcal):
            e = F.max_pool3d(F.relu(self.conv_ecal((ecal * self.scale_ecal)[:, None])), 2)
            h = F.max_pool3d(F.relu(self.conv_hcal((hcal * self.scale_hcal)[:, None])), 2)
            sums = (torch.cat([ecal.sum((1, 2)), hcal.sum((1, 2))], 1) - self.mean) / self.std
            x = F.relu(self.hidden(torch.cat([e.flatten(1), h.flatten(1), sums], 1)))
            return 100 * (self.out(x) + self.skip(sums))

        def loss(self, said, energy, _):
            return (((said[:, 0] - energy) ** 2) / (0.2**2 * energy + 0.01**2 * energy**2)).mean()

    class Classes(Network):
        """2D convolutions over the ECAL with its layers as channels, the sums of all layers and of the HCAL towers."""

        def __init__(self, events, rows):
            super().__init__()
            median = lambda hits: max(float(np.median(hits.energies)), 1e-6)
            self.constant("scale_ecal", 1 / median(events.ecal))
            self.constant("scale_hcal", 1 / median(events.hcal))
            self.constant("scale_layers", np.repeat([0.1 / median(events.ecal), 1 / median(events.hcal)], [ECAL[2], HCAL[2]]))
            counts = np.bincount(events.sample[rows], minlength=len(CLASSES))
            self.register_buffer("weight", torch.tensor(len(rows) / len(CLASSES) / np.maximum(counts, 1), dtype=torch.float32), persistent=False)
            self.conv1, self.conv2 = nn.Conv2d(ECAL[2], 24, 3), nn.Conv2d(24, 48, 3)
            self.hidden, self.out = nn.Linear(48 * 4 * 4 + LAYERS + 25, 128), nn.Linear(128, len(CLASSES))

        def forward(self, ecal, hcal):
            logarithm = lambda x, scale: torch.log(F.relu(x) * scale + 1)
            x = logarithm(ecal, self.scale_ecal).permute(0, 3, 1, 2)
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            layers = logarithm(torch.cat([ecal.sum((1, 2)), hcal.sum((1, 2))], 1), self.scale_layers)
            towers = logarithm(hcal.sum(3).flatten(1), self.scale_hcal)
            return self.out(F.relu(self.hidden(torch.cat([x.flatten(1), layers, towers], 1))))

        def loss(self, said, _, sample):
            return F.cross_entropy(said, sample, self.weight)

    order = np.random.default_rng(arguments.seed).permutation(len(events.energy))
    held_out, rows = np.split(order, [max(1, len(order) // 10)])
    network = {"energy": Energy, "classes": Classes}[what](events, rows).to(device)
    ecal, hcal = OnDevice(events.ecal), OnDevice(events.hcal)
    energy = torch.from_numpy(events.energy.astype(np.float32)).to(device)
    sample = torch.from_numpy(events.sample.astype(np.int64)).to(device)
    rows, kept = torch.from_numpy(rows).to(device), torch.from_numpy(held_out).to(device)

    steps = arguments.epochs * math.ceil(len(rows) / arguments.batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=arguments.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.rate, total_steps=steps, pct_start=0.05, anneal_strategy="cos")

    def answers(some):
        network.eval()
        with torch.no_grad():
            return torch.cat([network(ecal.dense(r), hcal.dense(r)) for r in some.split(arguments.batch)])

    for epoch in range(arguments.epochs):
        began, total = time.monotonic(), 0.0
        network.train()
        for some in rows[torch.randperm(len(rows), device=device)].split(arguments.batch):
            loss = network.loss(network(ecal.dense(some), hcal.dense(some)), energy[some], sample[some])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(some)
        held = float(network.loss(answers(kept), energy[kept], sample[kept]))
        print(f"{what} {epoch + 1}/{arguments.epochs}: loss {float(total) / len(rows):.4f}, held out {held:.4f}, {time.monotonic() - began:.1f} s", flush=True)

    said = answers(kept[:256])
    said = said.softmax(1) if what == "classes" else said
    weights = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    return weights, held_out, said.cpu().numpy()


# The program ---------------------------------------------------------------------------------------------------------


def describe(path, text):
    size, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path}: {size / 1e6:.2f} MB\n{text}\n", flush=True)
    return f"## {path.name}\n\n{size} bytes, SHA-256 `{digest}`.\n\n{text}\n"


def make_linear(electrons, arguments):
    a, b = fit_linear(electrons)
    path = arguments.out / "linear.onnx"
    linear_graph(path, a, b)
    rows = np.arange(len(electrons.energy))[: arguments.check]
    table = resolution_table(electrons.energy[rows], run(path, electrons, rows)[:, 0])
    return describe(path, f"E = A sum(ECAL) + B sum(HCAL) with A = {a:.3f}, B = {b:.3f}: least squares on {len(electrons.energy)} electrons.\n\n{table}")


def make_network(what, events, arguments):
    graph = {"energy": energy_graph, "classes": classes_graph}[what]
    weights, held_out, expected = train(what, events, arguments)
    path = arguments.out / f"{what}.onnx"
    graph(path, weights)
    said = run(path, events, held_out[: arguments.check])
    first = min(len(said), len(expected))
    worst = np.max(np.abs(said[:first] - expected[:first]) / (1 + np.abs(expected[:first])))
    if not worst < 1e-3:
        path.unlink()
        raise SystemExit(f"{path} says something else than torch: {worst}")
    training = f"{len(events.energy) - len(held_out)} events, {arguments.epochs} epochs of batches of {arguments.batch}, seed {arguments.seed}"
    rows = held_out[: arguments.check]
    if what == "energy":
        return describe(path, f"Trained on electrons only: {training}. Electrons that were held out:\n\n{resolution_table(events.energy[rows], said[:, 0])}")
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (events.sample[rows], said.argmax(1)), 1)
    lines = ["| true \\ most probable | " + " | ".join(CLASSES) + " |", "|---" * (len(CLASSES) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(map(str, counts)) + " |" for name, counts in zip(CLASSES, confusion)]
    return describe(path, f"Trained on {', '.join(CLASSES)}: {training}. Events that were held out:\n\n" + "\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a folder of Parquet files with hits, or one file")
    parser.add_argument("--out", type=Path, default=Path("models"), help="where the models go")
    parser.add_argument("--only", choices=["linear", "energy", "classes"], help="just this model")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=1e-3, help="the highest learning rate")
    parser.add_argument("--events", type=int, default=10**9, help="at most so many events of a sample")
    parser.add_argument("--check", type=int, default=20_000, help="events on which a finished model is looked at")
    parser.add_argument("--seed", type=int, default=2017)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    notes = []
    if arguments.only != "classes":
        electrons = read(arguments.data, ["electron"], arguments.events)
        if arguments.only in (None, "linear"):
            notes.append(make_linear(electrons, arguments))
        if arguments.only in (None, "energy"):
            notes.append(make_network("energy", electrons, arguments))
        del electrons
    if arguments.only in (None, "classes"):
        notes.append(make_network("classes", read(arguments.data, CLASSES, arguments.events), arguments))

    opening = "# Models of the example pipelines\n\nMade by `examples/train_lcd.py`, which says how. Inputs: ECAL (N, 25, 25, 25) and HCAL (N, 5, 5, 60), GeV deposited.\n"
    if arguments.only is None:
        (arguments.out / "README.md").write_text("\n".join([opening, *notes]))


if __name__ == "__main__":
    main()
