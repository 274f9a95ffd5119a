"""The same images in the layouts that one meets, and what h5py takes to read them.

    layouts.py make FOLDER FILE...    writes FOLDER/<layout>/*.h5 and FOLDER/chunks.tsv, where every chunk of images is
    layouts.py read FILE...           prints the seconds of reading all images, 500 events at a time, without those of the imports
"""

import sys
import time
from multiprocessing import Pool
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

LAYOUTS = {
    "gzip": {"compression": "gzip", "compression_opts": 2, "shuffle": True},
    "lzf": {"compression": "lzf", "shuffle": True},
    "lz4": {**hdf5plugin.LZ4(), "shuffle": True},
    "zstd": {**hdf5plugin.Zstd(), "shuffle": True},
    "blosc": {**hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE)},
    "contiguous": None,
}
IMAGES = ["ECAL", "HCAL"]


def make(job):
    folder, layout, path = job
    how = LAYOUTS[layout]
    lines = []
    out = Path(folder) / layout / Path(path).name
    with h5py.File(path) as source, h5py.File(out, "w") as file:
        for key in source:
            extra = {} if how is None else {"chunks": source[key].chunks, **how}
            file.create_dataset(key, data=source[key][:], **extra)
    with h5py.File(out) as file:
        for key in IMAGES:
            data = file[key]
            rows = 100 if how is None else data.chunks[0]
            size = rows * data[0].size * data.dtype.itemsize
            assert len(data) % rows == 0
            for i in range(len(data) // rows):
                if how is None:
                    begin, packed = data.id.get_offset() + i * size, size
                else:
                    chunk = data.id.get_chunk_info(i)
                    assert chunk.filter_mask == 0
                    begin, packed = chunk.byte_offset, chunk.size
                lines.append(f"{layout}\t{out}\t{begin}\t{packed}\t{size}\n")
    return lines


def read(files):
    cells = 0
    for path in files:
        with h5py.File(path) as file:
            for key in IMAGES:
                data = file[key]
                into = np.empty((500, *data.shape[1:]), data.dtype)
                for first in range(0, len(data), 500):
                    rows = min(500, len(data) - first)
                    data.read_direct(into, np.s_[first : first + rows], np.s_[:rows])
                    cells += into[:rows].size
    return cells


if __name__ == "__main__":
    if sys.argv[1] == "make":
        folder, files = Path(sys.argv[2]), sys.argv[3:]
        for layout in LAYOUTS:
            (folder / layout).mkdir(parents=True, exist_ok=True)
        with Pool(2) as pool:
            lines = pool.map(make, [(folder, layout, path) for layout in LAYOUTS for path in files], chunksize=1)
        (folder / "chunks.tsv").write_text("".join(line for part in lines for line in part))
    else:
        begun = time.perf_counter()
        read(sys.argv[2:])
        print(time.perf_counter() - begun)
