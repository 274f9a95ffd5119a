"""Makes events of a liquid argon TPC in the layout of LArIAT (schema lariat-2d: two planes of 240 wires and 4096 ticks, float16), to
try pipelines/lariat-particle-identification.yaml on, and the network that it runs.

    .deps/venv/bin/python examples/make_lartpc.py FOLDER [--events 100] [--seed 1]

Tracks with the energy loss of their particle and a peak at their end (muons, kaons, pions, which may interact on the way), and showers
(electrons, photons after a gap). `--events` is of each file; there is one for each particle and each antiparticle. The network sees
sums and counts of both planes and is trained on events that are not written.
"""

import argparse
from pathlib import Path

import h5py
import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from small_networks import Graph

CLASSES = {
    "pion": ["pionPlus", "pionMinus"],
    "kaon": ["kaonPlus", "kaonMinus"],
    "muon": ["muon", "antimuon"],
    "electron": ["electron", "antielectron"],
    "photon": ["photon"],
}
MASS = {"pion": 0.1396, "kaon": 0.4937, "muon": 0.1057, "electron": 0.0005, "photon": 0.0}
WIRES, TICKS = 240, 4096
THRESHOLD = 2.0


def event(rng, particle):
    """An image (2, 240, 4096), the energy in GeV and the length of the track in cm."""
    energy = rng.uniform(0.55, 1.3)
    slope, start = rng.normal(0, 3.0, 2), rng.uniform(1200, 2800)
    kinetic = energy - MASS[particle]
    full = 95 * kinetic / (0.6 + MASS[particle])
    if particle in ("electron", "photon"):
        gap = rng.exponential(18) if particle == "photon" else 0
        depth = np.arange(full * 1.3)
        profile = depth**1.4 * np.exp(-depth / 12) * rng.gamma(6, 1 / 6, len(depth))
        charge, along = 900 * kinetic * profile / profile.sum(), depth + gap
        width = 6 + 0.5 * depth
    else:
        stop = min(full, rng.exponential(70)) if particle == "pion" else full
        depth = np.arange(0, stop, 0.4)
        left = (full - depth).clip(0.5)
        charge = 3.0 * (1 + 1.1 * MASS[particle]) * (1 + 6 / left**0.7) * rng.gamma(8, 1 / 8, len(depth))
        along, width = depth, np.full(len(depth), 5.0)
        if particle == "pion" and stop < full:
            along, charge = np.r_[along, along[-1:] + np.arange(8)], np.r_[charge, rng.exponential(9, 8)]
            width = np.full(len(along), 8.0)
    image = np.zeros((2, WIRES, TICKS), np.float16)
    ticks = np.arange(-60, 61)
    for plane in range(2):
        wires = (20 + along / 0.4 * (0.85 + 0.1 * plane)).astype(int)
        for wire, q, w, d in zip(wires, charge, width, along):
            if wire < WIRES:
                middle = int(start + slope[plane] * d + rng.normal(0, w))
                image[plane, wire, middle - 60 : middle + 61] += (q * np.exp(-0.5 * (ticks / w) ** 2)).astype(np.float16)
    image[image < 0.05] = 0
    return image, energy, float(along[-1]) * rng.normal(1, 0.03)


def seen(graph):
    """What the network sees of each plane: charge, wires and cells that are hit, the largest charge of a wire."""
    wires = graph.total("image", [3])
    counted = lambda of, axes: graph.total(graph.add("Cast", graph.add("Greater", of, graph.value(THRESHOLD)), to=1), axes)
    features = [graph.total(wires, [2]), counted(wires, [2]), counted("image", [2, 3]), graph.add("ReduceMax", wires, axes=[2], keepdims=0)]
    return graph.add("Concat", *[graph.log(f) for f in features], axis=1)


def main():
    words = argparse.ArgumentParser()
    words.add_argument("folder", type=Path)
    words.add_argument("--events", type=int, default=100, help="of each file")
    words.add_argument("--seed", type=int, default=1)
    words = words.parse_args()
    words.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(words.seed)
    import onnxruntime

    probe = Graph({"image": (2, WIRES, TICKS)})
    probe.save(words.folder / "features.onnx", seen(probe), 8)
    features = onnxruntime.InferenceSession(words.folder / "features.onnx")
    truth = np.repeat(np.arange(len(CLASSES)), 30)
    names = list(CLASSES)
    x = np.concatenate([features.run(None, {"image": event(rng, names[t])[0][None].astype(np.float32)})[0] for t in truth])
    (words.folder / "features.onnx").unlink()
    scaler = StandardScaler().fit(x)
    network = MLPClassifier((16,), max_iter=400, random_state=1).fit(scaler.transform(x), truth)
    graph = Graph({"image": (2, WIRES, TICKS)})
    graph.save(words.folder / "network.onnx", graph.layers(graph.scaled(seen(graph), scaler), network), len(CLASSES), "Softmax", axis=1)
    for particle, files in CLASSES.items():
        for name in files:
            n = words.events
            with h5py.File(words.folder / f"{name}_0.2d.h5", "w") as file:
                chunks = (1, 2, WIRES, TICKS)
                images = file.create_dataset("images", (n, *chunks[1:]), "f2", chunks=chunks, compression="gzip", compression_opts=1)
                known = np.zeros((8, n), np.float32)
                for row in range(n):
                    images[row], known[0, row], known[1, row] = event(rng, particle)
                known[4] = known[0]
                labels = ["Energy", "Track_length", "Px", "Py", "Pz", "lep_mom_truth", "nu_energy_truth", "mode_truth"]
                for label, values in zip(labels, known):
                    file[label] = values


main()
