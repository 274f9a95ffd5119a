"""HDF5 to Parquet as one writes it with h5py and pyarrow: `convert.py lists|bytes OUT FILE...`.

Two processes, a file at a time each, 500 events at once, zstd 1. `lists` has images that everybody can open, `bytes` has
opaque ones, which are faster. Prints seconds, without those of the imports.
"""

import sys
import time
from multiprocessing import Pool
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

STEP = 500


def column(images, form):
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    if form == "lists":
        return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
    width = flat.shape[1] * flat.itemsize
    return pa.Array.from_buffers(pa.binary(width), len(flat), [None, pa.py_buffer(flat)])


def convert(job):
    form, out, path = job
    writer = None
    with h5py.File(path) as file:
        for first in range(0, len(file["target"]), STEP):
            rows = slice(first, first + STEP)
            target = file["target"][rows]
            table = pa.table({
                "ecal": column(file["ECAL"][rows], form),
                "hcal": column(file["HCAL"][rows], form),
                "pdg": target[:, 0].astype(np.int32),
                "energy": np.ascontiguousarray(target[:, 1]),
            })
            if writer is None:
                name = Path(out) / (Path(path).stem + ".parquet")
                writer = pq.ParquetWriter(name, table.schema, compression="zstd", compression_level=1, use_dictionary=False)
            writer.write_table(table)
    writer.close()


if __name__ == "__main__":
    form, out, files = sys.argv[1], sys.argv[2], sys.argv[3:]
    begun = time.perf_counter()
    with Pool(2) as pool:
        pool.map(convert, [(form, out, path) for path in files], chunksize=1)
    print(time.perf_counter() - begun)
