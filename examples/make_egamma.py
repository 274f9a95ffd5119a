"""Makes electrons of Z bosons in the layout of DeepCalo (schema deepcalo), to try pipelines/deepcalo-energy.yaml on, and the network
that it runs.

    .deps/venv/bin/python examples/make_egamma.py FOLDER [--events 20000] [--seed 1]

Events are pairs, one row an electron, the rows of an event one behind the other. A part of the energy is lost in front of the
calorimeter, more where there is more material, and showers that lose more begin earlier: the layers know of it. `p_e` is corrected for
the mean of what is lost, the network for that of each shower. It is trained on the group `train`; pipelines read `test`.
"""

import argparse
from pathlib import Path

import h5py
import numpy as np
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from small_networks import Graph

SHAPE = (56, 11)
LAYERS = 4
MASS, WIDTH = 91.1876, 2.4952


def material(eta):
    """The share of the energy that is lost in front of the calorimeter, on average."""
    return 0.04 + 0.05 * np.abs(eta) ** 2


def events(rng, pairs):
    """The images and the numbers of the electrons of so many pairs, in a map by dataset."""
    mass = MASS + WIDTH / 2 * rng.standard_cauchy(pairs)
    mass = np.where((mass > 40) & (mass < 150), mass, MASS)
    eta, phi = rng.uniform(-1.35, 1.35, (pairs, 2)), rng.uniform(-np.pi, np.pi, (pairs, 2))
    phi[:, 1] = phi[:, 0] + np.pi + rng.normal(0, 0.4, pairs)
    phi = (phi + np.pi) % (2 * np.pi) - np.pi
    opening = np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1])
    share = rng.uniform(0.8, 1.25, pairs)
    pt = np.stack([share, 1 / share], 1) * (mass / np.sqrt(2 * opening))[:, None]
    eta, phi, pt = eta.ravel(), phi.ravel(), pt.ravel()
    energy = pt * np.cosh(eta)
    n = len(energy)
    lost = material(eta) * rng.gamma(2, 0.5, n)
    seen = energy * (1 - lost) * (1 + 0.10 / np.sqrt(energy) * rng.normal(size=n) + 0.007 * rng.normal(size=n))
    shares = np.stack([0.03 + 0.9 * lost, 0.18 + 1.2 * lost, np.full(n, 0.73), np.full(n, 0.06)], 1) * rng.gamma(60, 1 / 60, (n, LAYERS))
    shares /= shares.sum(1)[:, None]
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    places = np.array(SHAPE) / 2 + rng.uniform(-1, 1, (n, 2))
    out = {}
    for layer in range(LAYERS):
        width = np.array([4.0, 1.0])[None] * (0.8 + 0.2 * layer)
        image = np.exp(-np.abs(y - places[:, :1, None]) / width[0, 0] - np.abs(x - places[:, 1:, None]) / width[0, 1])
        image *= (seen * shares[:, layer] / image.sum((1, 2)))[:, None, None]
        image[image < 0.01] = 0
        out[f"em_barrel_Lr{layer}"] = image.astype(np.float32)
    accordion = sum(image.sum((1, 2), dtype=float) for image in out.values())
    numbers = {
        "p_truth_E": energy,
        "p_eAccCluster": accordion,
        "p_e": accordion / (1 - material(eta)) * (1 + 0.006 * rng.normal(size=n)),
        "p_eta": eta,
        "p_phi": phi,
        "p_charge": np.tile([-1, 1], pairs),
    }
    numbers["p_e"] *= np.median(energy / numbers["p_e"])
    out |= {name: values.astype(np.float32) for name, values in numbers.items()}
    out["p_photonConversionType"] = np.zeros(n, np.int32)
    out["mcChannelNumber"] = np.where(np.repeat(rng.random(pairs) < 0.97, 2), 361106, 423300).astype(np.int32)
    return out


def seen(data):
    """What the network sees: the shares of the layers, the absolute of eta, and the energy."""
    sums = np.stack([data[f"em_barrel_Lr{layer}"].sum((1, 2)) for layer in range(LAYERS)], 1)
    return np.c_[sums / sums.sum(1)[:, None], np.abs(data["p_eta"]), np.log(1 + sums.sum(1))]


def main():
    words = argparse.ArgumentParser()
    words.add_argument("folder", type=Path)
    words.add_argument("--events", type=int, default=20000, help="pairs in the group `test`; a quarter in the others")
    words.add_argument("--seed", type=int, default=1)
    words = words.parse_args()
    words.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(words.seed)
    first = 0
    with h5py.File(words.folder / "egamma.h5", "w") as file:
        for group, pairs in (("train", max(2000, words.events // 4)), ("val", max(1, words.events // 4)), ("test", words.events)):
            data = events(rng, pairs)
            data["eventNumber"] = first + np.repeat(np.arange(pairs, dtype=np.int64), 2)
            first += pairs
            for name, values in data.items():
                chunks = (min(512, len(values)), *values.shape[1:])
                file.create_dataset(f"{group}/{name}", data=values, chunks=chunks, compression="gzip", compression_opts=1)
            if group == "train":
                x, y = seen(data), data["p_truth_E"] / data["p_eAccCluster"]
    scaler = StandardScaler().fit(x)
    network = MLPRegressor(hidden_layer_sizes=(16,), max_iter=200, random_state=1, tol=1e-7, n_iter_no_change=30).fit(scaler.transform(x), y)
    layers = [f"em_barrel_{layer}" for layer in range(LAYERS)]
    graph = Graph({name: SHAPE for name in layers} | {"eta": ()})
    sums = graph.add("Concat", *[graph.column(graph.total(name, [1, 2])) for name in layers], axis=1)
    total = graph.column(graph.total(sums, [1]))
    eta = graph.column(graph.add("Abs", "eta"))
    features = graph.add("Concat", graph.add("Div", sums, total), eta, graph.log(total), axis=1)
    graph.save(words.folder / "energy.onnx", graph.add("Mul", graph.layers(graph.scaled(features, scaler), network), total), 1)


main()
