"""Trains four-class networks of several widths, depths and epochs on LCD images, to try pipelines/lcd-model-scan.yaml on.

    .deps/venv/bin/python examples/scan_models.py DATA FOLDER [--events 500]

DATA has files of the layout LCD V1 (pipelines/make-showers.yaml makes some). The networks see the energies of the layers of both
calorimeters, and are trained on the first events of each file of each particle. The files are called w<width>_d<depth>_e<epochs>.onnx.
"""

import argparse
from pathlib import Path

import h5py
import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from small_networks import Graph

PARTICLES = ["Ele", "Gamma", "Pi0", "ChPi"]
SCAN = [(8, 1, 2), (8, 1, 20), (32, 1, 20), (32, 2, 20)]


def main():
    words = argparse.ArgumentParser()
    words.add_argument("data", type=Path)
    words.add_argument("folder", type=Path)
    words.add_argument("--events", type=int, default=500, help="of each file")
    words = words.parse_args()
    words.folder.mkdir(parents=True, exist_ok=True)
    x, truth = [], []
    for number, particle in enumerate(PARTICLES):
        for path in sorted(words.data.glob(f"{particle}Escan*.h5")):
            with h5py.File(path) as file:
                ecal, hcal = (file[name][: words.events].astype(np.float32) for name in ("ECAL", "HCAL"))
            x.append(np.log(1 + 100 * np.c_[ecal.sum((1, 2)), hcal.sum((1, 2))].clip(min=0)))
            truth.append(np.full(len(ecal), number))
    x, truth = np.concatenate(x), np.concatenate(truth)
    scaler = StandardScaler().fit(x)
    for width, depth, epochs in SCAN:
        network = MLPClassifier((width,) * depth, max_iter=epochs, n_iter_no_change=epochs, random_state=1).fit(scaler.transform(x), truth)
        graph = Graph({"ECAL": (25, 25, 25), "HCAL": (5, 5, 60)})
        sums = graph.add("Concat", *[graph.total(name, [1, 2]) for name in ("ECAL", "HCAL")], axis=1)
        features = graph.log(graph.add("Mul", graph.add("Relu", sums), graph.value(100)))
        out = graph.layers(graph.scaled(features, scaler), network)
        graph.save(words.folder / f"w{width}_d{depth}_e{epochs}.onnx", out, len(PARTICLES), "Softmax", axis=1)


main()
