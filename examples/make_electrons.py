"""Makes electrons and background in the layout of the CMS electron identification (schema cms-eml), to try
pipelines/eml-electron-identification.yaml on, and the network that it runs.

    .deps/venv/bin/python examples/make_electrons.py FOLDER [--events 20000] [--seed 1]

Nothing here is simulated: showers are exponentials around a seed crystal, those of background wider and with more around them.
The score in the files (`mva`) is that of boosted trees on 21 numbers of the shower, as in the analysis; `cnn.onnx` is a network on
these and on the images of 15 x 29 crystals, whose rows and columns it sums. Both are trained on events that are not written.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from small_networks import Graph

ETA, PHI = np.mgrid[-7:8, -14:15]


def events(rng, n):
    """Images, the 21 numbers and what is known of n electrons."""
    match = rng.choice([0, 1, 2], n, p=[0.35, 0.15, 0.5])
    signal = match == 2
    pt = 5 + np.where(signal, rng.exponential(28, n), rng.exponential(20, n))
    eta = np.where(signal, rng.uniform(-1.5, 1.5, n), np.clip(rng.normal(0, 0.8, n), -1.49, 1.49))
    width = np.where(signal, rng.normal(0.75, 0.12, n), rng.normal(0.98, 0.25, n)).clip(0.3)
    spread = np.where(signal, rng.exponential(0.5, n), rng.exponential(0.9, n))
    place = rng.uniform(-0.5, 0.5, (2, n))
    r = np.hypot(ETA - place[0, :, None, None], (PHI - place[1, :, None, None]) / (1 + spread[:, None, None]))
    image = np.exp(-r / width[:, None, None])
    other = rng.uniform(-6, 6, (2, n))
    second = np.exp(-np.hypot(ETA - other[0, :, None, None], PHI - other[1, :, None, None]) / 0.8)
    image += second * np.where(signal, 0, rng.exponential(0.12, n))[:, None, None]
    around = rng.random(image.shape) < np.where(signal, 0.01, 0.025)[:, None, None]
    image /= image.sum((1, 2))[:, None, None]
    image += around * rng.exponential(0.02, image.shape)
    energy = pt * np.cosh(eta)
    image *= energy[:, None, None] * rng.normal(1, 0.03, (n, 1, 1))
    image *= rng.normal(1, 0.05, image.shape)
    image[image < 0.08] = 0
    total = image.sum((1, 2)) + 1e-9
    centre = image[:, 5:10, 12:17]
    moment = lambda of, power: (image * of**power).sum((1, 2)) / total
    inputs = rng.normal(size=(n, 21))
    inputs[:, 0] = np.sqrt(moment(ETA, 2) - moment(ETA, 1) ** 2)
    inputs[:, 1] = np.sqrt(moment(PHI, 2) - moment(PHI, 1) ** 2)
    inputs[:, 2] = (image[:, 6:9, 13:16].sum((1, 2)) / total).clip(max=5)
    inputs[:, 3] = (1 - centre.max((1, 2)) / (centre.sum((1, 2)) + 1e-9)).clip(-1, 2)
    inputs[:, 4] = rng.exponential(np.where(signal, 0.03, 0.06))
    inputs[:, 5] = (rng.normal(1, np.where(signal, 0.15, 0.4))).clip(max=20)
    known = np.zeros((n, 12))
    known[:, 0], known[:, 1], known[:, 2] = match, pt, eta
    known[:, 4], known[:, 5] = rng.integers(1, 361, n), rng.integers(-85, 86, n)
    known[:, 6] = rng.poisson(35, n)
    return image.astype(np.float32), inputs.astype(np.float32), known.astype(np.float32)


def seen(image, inputs):
    """What the network sees: ln(1 + 100 x share of the energy) of all rows and columns of crystals, and the 21 numbers."""
    shares = image / (image.sum((1, 2), keepdims=True) + 1e-3)
    return np.c_[np.log(1 + 100 * shares.sum(2)), np.log(1 + 100 * shares.sum(1)), inputs]


def main():
    words = argparse.ArgumentParser()
    words.add_argument("folder", type=Path)
    words.add_argument("--events", type=int, default=20000)
    words.add_argument("--seed", type=int, default=1)
    words = words.parse_args()
    words.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(words.seed)
    image, inputs, known = events(rng, 6000)
    truth = known[:, 0] == 2
    trees = HistGradientBoostingClassifier(max_iter=40, random_state=1).fit(inputs, truth)
    scaler = StandardScaler().fit(seen(image, inputs))
    network = MLPClassifier((24,), alpha=1, max_iter=30, n_iter_no_change=30, random_state=1)
    network.fit(scaler.transform(seen(image, inputs)), truth)
    graph = Graph({"image": (15, 29), "inputs": (21,)})
    total = graph.add("Add", graph.total("image", [1, 2]), graph.value(1e-3))
    share = graph.add("Div", "image", graph.add("Reshape", total, graph.value([-1, 1, 1], np.int64)))
    sums = [graph.log(graph.add("Mul", graph.total(share, [axis]), graph.value(100))) for axis in (2, 1)]
    features = graph.scaled(graph.add("Concat", *sums, "inputs", axis=1), scaler)
    graph.save(words.folder / "cnn.onnx", graph.layers(features, network), 1, "Sigmoid")
    for number, n in enumerate(np.array_split(np.arange(words.events), 2)):
        image, inputs, known = events(rng, len(n))
        known[:, 3] = 2 * trees.predict_proba(inputs)[:, 1] - 1
        np.savez_compressed(words.folder / f"electrons_data_{number}.npz", x_data=image, mva_data=inputs, y_data=known)


main()
