"""HDF5 to the resolution in bins as one writes it with h5py, onnxruntime and numpy: `predict.py MODEL FILE...`.

Two processes, each with a session of one thread, a file at a time, 500 events at once, batches of 128. Prints seconds, without those of the
imports.
"""

import sys
import time
from multiprocessing import Pool

import h5py
import numpy as np
import onnxruntime

BATCH = 128
# Whole chunks of the file: what is cut through is decompressed twice.
STEP = 500


def open_session(model):
    global session
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predict(path):
    with h5py.File(path) as file:
        energy = file["target"][:, 1]
        predicted = []
        for first in range(0, len(energy), STEP):
            ecal, hcal = file["ECAL"][first:first + STEP], file["HCAL"][first:first + STEP]
            for at in range(0, len(ecal), BATCH):
                feed = {"ECAL": ecal[at:at + BATCH], "HCAL": hcal[at:at + BATCH]}
                predicted.append(session.run(["energy"], feed)[0][:, 0])
    return path, energy, np.concatenate(predicted)


if __name__ == "__main__":
    model, files = sys.argv[1], sys.argv[2:]
    begun = time.perf_counter()
    samples = {}
    with Pool(2, open_session, [model]) as pool:
        for path, energy, predicted in pool.imap_unordered(predict, files):
            samples.setdefault(path.rsplit("/", 1)[-1].split("Escan")[0], []).append((energy, (energy - predicted) / energy))
    edges = np.linspace(10, 510, 11)
    for name, parts in samples.items():
        energy, error = (np.concatenate(column) for column in zip(*parts))
        bins = np.digitize(energy, edges)
        n, mean, square = (np.bincount(bins, w, 12)[1:11] for w in (None, error, error * error))
        bias = mean / n
        np.column_stack([edges[:-1], n, bias, np.sqrt(square / n - bias**2)])
    print(time.perf_counter() - begun)
