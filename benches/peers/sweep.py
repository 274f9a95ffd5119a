"""Many networks over the same images, as one runs them with h5py and onnxruntime: `sweep.py runs|bare FOLDER FILE...`.

`runs`: for each model of the folder the whole sample is read again, by two processes with a session of one thread each, a file at a time, 500
events at once, batches of 128. Prints the seconds of all runs, without those of the imports and of starting processes.

`bare`: each of two processes has the images of one file in memory, dense, and runs every model over batches of 128 of them. Prints the
seconds that an event takes both processes, all models together.
"""

import sys
import time
from multiprocessing import Barrier, Pool, Process, Queue
from pathlib import Path

import h5py
import numpy as np
import onnxruntime

BATCH = 128
STEP = 500
NAMES = ["score"]


def open_session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predict(job):
    global known
    model, path = job
    if known[0] != model:
        known = (model, open_session(model))
    predicted = []
    with h5py.File(path) as file:
        events = len(file["ECAL"])
        for first in range(0, events, STEP):
            ecal, hcal = file["ECAL"][first:first + STEP], file["HCAL"][first:first + STEP]
            for at in range(0, len(ecal), BATCH):
                feed = {"ECAL": ecal[at:at + BATCH], "HCAL": hcal[at:at + BATCH]}
                predicted.append(known[1].run(NAMES, feed)[0][:, 0])
    return np.concatenate(predicted)


def bare(models, path, ready, answers):
    sessions = [open_session(model) for model in models]
    with h5py.File(path) as file:
        ecal, hcal = file["ECAL"][:], file["HCAL"][:]
    batches = [{"ECAL": ecal[at:at + BATCH], "HCAL": hcal[at:at + BATCH]} for at in range(0, len(ecal) - BATCH + 1, BATCH)]
    for session in sessions:
        session.run(NAMES, batches[0])
    ready.wait()
    begun = time.perf_counter()
    # A batch meets all models while it is in the cache, as in one pass.
    for batch in batches:
        for session in sessions:
            session.run(NAMES, batch)
    answers.put((time.perf_counter() - begun) / (BATCH * len(batches)))


known = (None, None)
if __name__ == "__main__":
    what, models, files = sys.argv[1], sorted(map(str, Path(sys.argv[2]).glob("*.onnx"))), sys.argv[3:]
    if what == "runs":
        with Pool(2) as pool:
            pool.map(len, [[], []])
            begun = time.perf_counter()
            for model in models:
                pool.map(predict, [(model, path) for path in files], chunksize=1)
            print(time.perf_counter() - begun)
    else:
        ready, answers = Barrier(2), Queue()
        workers = [Process(target=bare, args=(models, files[0], ready, answers)) for _ in range(2)]
        for worker in workers:
            worker.start()
        print(sum(answers.get() for _ in workers) / 4)
        for worker in workers:
            worker.join()
