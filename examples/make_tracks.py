"""Makes tracks in a gas TPC in the layout of NEXT (schema next-dense: energies in voxels), to try
pipelines/next-signal-efficiency.yaml on, and the networks that it runs.

    .deps/venv/bin/python examples/make_tracks.py FOLDER [--events 400] [--box 400] [--seed 1]

Two electrons leave a vertex (signal), or one (background); each is a random walk that bends more as it slows down and ends in a
blob. The same tracks are put into voxels of 2 x 2 x 2 mm and of 10 x 10 x 5 mm, in files of the names that the analysis has. `--box` is the
side of the volume in mm: at 400 a picture of small voxels has 200 x 200 x 200. The networks see sums of powers of the energy within 10 mm and
are trained on tracks that are not written.
"""

import argparse
from pathlib import Path

import h5py
import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from small_networks import Graph

VOXELS = {"v2x2x2": (2, 2, 2), "v10x10x5": (10, 10, 5)}
ENERGY = 2.458  # MeV


def electron(rng, energy, direction, scale):
    """Places and energies of the deposits of one electron from 0 on."""
    places, deposits, at = [], [], np.zeros(3)
    step = 0.04
    while energy > 0:
        loss = min(energy, step * rng.gamma(4, 0.25) * (1 + 0.6 / (energy + 0.15)))
        at = at + direction * scale
        direction = direction + rng.normal(0, 0.12 + 0.16 / (energy + 0.2), 3)
        direction /= np.linalg.norm(direction)
        places.append(at)
        deposits.append(loss)
        energy -= loss
    return np.array(places), np.array(deposits)


def track(rng, signal, box):
    """Deposits of an event, its middle in the middle of the box."""
    ways = rng.normal(size=(2, 3))
    ways /= np.linalg.norm(ways, axis=1)[:, None]
    share = rng.uniform(0.25, 0.75) if signal else 1.0
    parts = [electron(rng, ENERGY * share, ways[0], box / 60)]
    if signal:
        parts.append(electron(rng, ENERGY * (1 - share), ways[1], box / 60))
    places, deposits = (np.concatenate(p) for p in zip(*parts))
    spots = np.repeat(places, 6, axis=0) + rng.normal(0, box / 130, (6 * len(places), 3))
    spots -= (spots.min(0) + spots.max(0)) / 2
    return spots, np.repeat(deposits / 6, 6)


def voxels(spots, deposits, size, box):
    bins = [int(box // s) for s in size]
    return np.histogramdd(spots, bins, [(-box / 2, box / 2)] * 3, weights=deposits)[0].astype(np.float32)


def kernel(size, box):
    """Voxels within a fortieth of the box, but one at least."""
    return [max(1, int(round(box / 40 / s)) // 2 * 2 + 1) for s in size]


def seen(graph, size, box):
    """What the network sees: voxels with energy, and sums of powers of the energy around each voxel."""
    k = kernel(size, box)
    image = graph.add("Unsqueeze", "voxels", graph.value([1], np.int64))
    pooled = graph.add("AveragePool", image, kernel_shape=k, pads=[n // 2 for n in k] * 2, count_include_pad=1)
    pooled = graph.add("Mul", pooled, graph.value(float(np.prod(k))))
    filled = graph.add("Cast", graph.add("Greater", "voxels", graph.value(0.0)), to=1)
    features = [graph.log(graph.total(filled, [1, 2, 3]))]
    power = pooled
    for _ in range(3):
        power = graph.add("Mul", power, pooled)
        features.append(graph.log(graph.total(power, [1, 2, 3, 4])))
    features.append(graph.add("ReduceMax", pooled, axes=[1, 2, 3, 4], keepdims=0))
    return graph.add("Concat", *[graph.column(f) for f in features], axis=1)


def main():
    words = argparse.ArgumentParser()
    words.add_argument("folder", type=Path)
    words.add_argument("--events", type=int, default=400, help="of each class")
    words.add_argument("--box", type=float, default=400)
    words.add_argument("--seed", type=int, default=1)
    words = words.parse_args()
    words.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(words.seed)
    box = words.box
    training = [(track(rng, signal, box), signal) for signal in (True, False) for _ in range(400)]
    import onnxruntime

    for name, size in VOXELS.items():
        shape = [int(box // s) for s in size]
        probe = Graph({"voxels": shape})
        probe.save(words.folder / "features.onnx", seen(probe, size, box), 5)
        features = onnxruntime.InferenceSession(words.folder / "features.onnx")
        x = np.concatenate([features.run(None, {"voxels": voxels(*t, size, box)[None]})[0] for t, _ in training])
        (words.folder / "features.onnx").unlink()
        scaler = StandardScaler().fit(x)
        network = MLPClassifier((16,), max_iter=300, random_state=1).fit(scaler.transform(x), [s for _, s in training])
        graph = Graph({"voxels": shape})
        out = graph.layers(graph.scaled(seen(graph, size, box), scaler), network)
        graph.save(words.folder / f"{name}.onnx", out, 1, "Sigmoid")
    for label, signal in (("0vbb_si", True), ("Bi214_bg", False)):
        tracks = [track(rng, signal, box) for _ in range(words.events)]
        for name, size in VOXELS.items():
            shape = [int(box // s) for s in size]
            tag = "x".join(str(n) for n in shape)
            with h5py.File(words.folder / f"dnn_NEXT100_{label}_{name}_r{tag}.Tensor.h5", "w") as file:
                images = file.create_dataset("3DImages", (len(tracks), *shape), "f4", chunks=(1, *shape), compression="gzip", compression_opts=1)
                for row, deposits in enumerate(tracks):
                    images[row] = voxels(*deposits, size, box)


main()
