"""What bare ONNX Runtime reaches: `sessions.py MODEL PROCESSES SECONDS FILE`.

Processes with a session of one thread each run batches of 128 events that are in memory, dense. Prints events a second of
all together.
"""

import sys
import time
from multiprocessing import Barrier, Process, Queue

import h5py
import onnxruntime

BATCH = 128


def work(model, path, seconds, ready, answers):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with h5py.File(path) as file:
        ecal, hcal = file["ECAL"][:], file["HCAL"][:]
    batches = [{"ECAL": ecal[at:at + BATCH], "HCAL": hcal[at:at + BATCH]} for at in range(0, len(ecal), BATCH)]
    session.run(["energy"], batches[0])
    ready.wait()
    begun, events = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for batch in batches:
            session.run(["energy"], batch)
        events += len(ecal)
    answers.put(events / (time.perf_counter() - begun))


if __name__ == "__main__":
    model, processes, seconds, path = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    ready, answers = Barrier(processes), Queue()
    workers = [Process(target=work, args=(model, path, seconds, ready, answers)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    print(sum(answers.get() for _ in workers))
    for worker in workers:
        worker.join()
