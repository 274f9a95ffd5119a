"""Mixes classes as one does it with h5py and numpy: `premix.py OUT FILE...`.

Everything is read into memory, put in a random order, labelled, and written to one HDF5 file with lzf, 500 events a chunk; one
process, because h5py has one lock and the arrays are one. Prints seconds, without those of the imports.
"""

import sys
import time
from pathlib import Path

import h5py
import numpy as np

CHUNK = 500
CLASSES = ["Ele", "Gamma", "Pi0", "ChPi"]

if __name__ == "__main__":
    out, files = sys.argv[1], sys.argv[2:]
    begun = time.perf_counter()
    shapes = []
    for path in files:
        with h5py.File(path) as file:
            shapes.append(len(file["target"]))
    total = sum(shapes)
    arrays = {}
    label = np.zeros((total, len(CLASSES)), "f4")
    order = np.random.default_rng(1).permutation(total)
    first = 0
    for path, events in zip(files, shapes):
        to = order[first:first + events]
        with h5py.File(path) as file:
            for name in ("ECAL", "HCAL", "target"):
                data = file[name][:]
                if name not in arrays:
                    arrays[name] = np.empty((total, *data.shape[1:]), data.dtype)
                arrays[name][to] = data
        label[to, CLASSES.index(Path(path).name.split("Escan")[0])] = 1
        first += events
    with h5py.File(out, "w") as file:
        for name, data in {**arrays, "OneHot": label}.items():
            file.create_dataset(name, data=data, chunks=(CHUNK, *data.shape[1:]), compression="lzf")
    print(time.perf_counter() - begun)
