"""Makes the files that the benches read: showers with the occupancy and the entropy of Geant4, in the layout LCD V1.

    make_input.py CORPUS FOLDER EVENTS FILES

Writes EVENTS events a class in FILES files a class. Each event is one of the Geant4 sample, mirrored and transposed across
the beam and scaled by a factor near 1, so that no two are the same to a compressor and the low bits of the cells stay noise.
Chunks of 100 events, shuffle and gzip 2, as in the files of 2017.
"""

import sys
from multiprocessing import Pool
from pathlib import Path

import h5py
import numpy as np

CLASSES = ["Ele", "Gamma", "Pi0", "ChPi"]


def write(job):
    corpus, folder, number, name, part, events = job
    with h5py.File(next(Path(corpus).glob(f"geant4_lcd/{name}Escan_*.h5"))) as file:
        ecal, hcal, target = (file[key][:] for key in ("ECAL", "HCAL", "target"))
    rng = np.random.default_rng([number, part])
    with h5py.File(Path(folder) / f"{name}Escan_1_{part + 1}.h5", "w") as file:
        rows = rng.integers(0, len(target), events)
        factor = rng.uniform(0.95, 1.05, events).astype(np.float32)
        flip, turn = rng.integers(0, 4, events), rng.integers(0, 2, events)
        for key, images in (("ECAL", ecal), ("HCAL", hcal)):
            made = images[rows] * factor[:, None, None, None]
            for event in range(events):
                image = made[event]
                image = image[::-1] if flip[event] & 1 else image
                image = image[:, ::-1] if flip[event] & 2 else image
                made[event] = image.swapaxes(0, 1) if turn[event] else image.copy()
            chunks = (min(100, events), *images.shape[1:])
            file.create_dataset(key, data=made, chunks=chunks, shuffle=True, compression="gzip", compression_opts=2)
        truth = target[rows]
        truth[:, 1] *= factor
        file.create_dataset("target", data=truth, chunks=(min(100, events), 2), shuffle=True, compression="gzip", compression_opts=2)


if __name__ == "__main__":
    corpus, folder, events, files = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [events // files + (part < events % files) for part in range(files)]
    jobs = [(corpus, folder, n, name, part, size) for n, name in enumerate(CLASSES) for part, size in enumerate(sizes) if size]
    with Pool(2) as pool:
        pool.map(write, jobs, chunksize=1)
