"""Receives batches of images for a training, and does nothing else with them: prints seconds, and how much longer the longest
wait between two batches was than the usual one.

    feed.py calostream PROGRAM ARGUMENT...     from `calostream feed`, with pyarrow (whole program, from its start)
    feed.py generator WORKERS BATCH FILE...    from processes that read HDF5 with h5py and put pickled batches into a queue

The second is how one feeds Keras from files of one class each: every worker has files of all classes open, takes rows of each in
turn, labels and shuffles them. It is timed without its imports, and from when its processes are there.
"""

import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np

CLASSES = ["Ele", "Gamma", "Pi0", "ChPi"]


def generate(number, workers, batch, files, queue, begin):
    import h5py

    by_class = [[f for f in files if Path(f).name.startswith(f"{name}Escan")] for name in CLASSES]
    each = batch // len(CLASSES)
    rng = np.random.default_rng(number)
    begin.wait()
    for paths in zip(*(of[number::workers] for of in by_class)):
        # With a cache that holds whole chunks: h5py's own is smaller than one, and decodes each chunk three times.
        opened = [h5py.File(path, rdcc_nbytes=64 << 20) for path in paths]
        for first in range(0, min(len(file["target"]) for file in opened), each):
            parts = [[file[name][first:first + each] for file in opened] for name in ("ECAL", "HCAL", "target")]
            label = np.repeat(np.arange(len(CLASSES)), [len(part) for part in parts[0]])
            order = rng.permutation(len(label))
            queue.put([np.concatenate(part)[order] for part in parts] + [np.eye(len(CLASSES), dtype="f4")[label[order]]])
    queue.put(None)


def generator(workers, batch, *files):
    workers, batch = int(workers), int(batch)
    queue, begin = multiprocessing.Queue(2 * workers), multiprocessing.Event()
    arguments = (workers, batch, files, queue, begin)
    processes = [multiprocessing.Process(target=generate, args=(number, *arguments)) for number in range(workers)]
    for process in processes:
        process.start()
    time.sleep(1)
    begun = time.perf_counter()
    begin.set()
    for _ in range(workers):
        while (one := queue.get()) is not None:
            yield begun, one[0], one[1]


def calostream(program, *arguments):
    import pyarrow as pa
    import subprocess

    begun = time.perf_counter()
    process = subprocess.Popen([program, "feed", *arguments], stdout=subprocess.PIPE, pipesize=1 << 20)
    with pa.ipc.open_stream(process.stdout) as stream:
        for batch in stream:
            yield begun, batch.column("ecal").to_numpy_ndarray(), batch.column("hcal").to_numpy_ndarray()
    assert process.wait() == 0


if __name__ == "__main__":
    rows, came = 0, []
    for begun, ecal, hcal in {"calostream": calostream, "generator": generator}[sys.argv[1]](*sys.argv[2:]):
        assert ecal.shape[1:] == (25, 25, 25) and hcal.shape[1:] == (5, 5, 60) and ecal.dtype == np.float32
        rows += len(ecal)
        came.append(time.perf_counter())
    gaps = np.diff(came)
    print((time.perf_counter() - begun) / rows, gaps.max() / np.median(gaps))
