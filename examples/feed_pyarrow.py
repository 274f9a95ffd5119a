"""Batches of a calostream pipeline in a training loop, with pyarrow and numpy alone.

    python examples/feed_pyarrow.py pipelines/feed-lcd.yaml --epochs 2 --set data=data/lcd/files

`Feed` is all there is to it: it starts `calostream feed`, reads the Arrow stream on a thread of its own, so that the next batches
lie ready while one is trained on, and gives each batch as numpy arrays that look into the message: nothing is copied.
"""

import atexit
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

BUILT = Path(__file__).resolve().parent.parent / "target/release/calostream"
CALOSTREAM = os.environ.get("CALOSTREAM") or shutil.which("calostream") or str(BUILT)


class Feed:
    """Iterates over batches: {"ecal": (rows, 25, 25, 25) float32, ..., "label": class numbers, "epoch": .., "position": ..}.

    `classes` are the names behind the labels. `resume` is what `--start` wants to go on after the last batch that was given:
    keep it with the weights. `ahead` batches lie ready.
    """

    def __init__(self, pipeline, *arguments, ahead=4):
        command = [CALOSTREAM, "feed", str(pipeline), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, pipesize=1 << 20)
        self.classes, self.resume = [], None
        self.ready = queue.Queue(ahead)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        # Python may crash where it ends while a thread is inside Arrow.
        atexit.register(self.close)

    def _read(self):
        try:
            with pa.ipc.open_stream(self.process.stdout) as stream:
                for batch in stream:
                    self.ready.put(batch)
        except (pa.ArrowInvalid, OSError, ValueError):
            pass  # It has said on standard error what is wrong; its exit code tells.
        self.ready.put(None)

    def __iter__(self):
        try:
            while (batch := self.ready.get()) is not None:
                arrays = {name: as_numpy(batch.column(name)) for name in batch.schema.names}
                if "sample" in arrays:
                    self.classes = batch.column("sample").dictionary.to_pylist()
                    arrays["label"] = arrays.pop("sample")
                self.resume = f"{arrays['epoch'][-1]}:{arrays['position'][-1] + 1}"
                yield arrays
            # 3: all was fed but what turned out to be damaged.
            if self.process.wait() not in (0, 3):
                raise RuntimeError("calostream feed has failed; its last words are above")
        finally:
            self.close()

    def close(self):
        """Ends the feed, before its end too."""
        self.process.terminate()
        while self.reader.is_alive():
            try:
                self.ready.get(timeout=0.1)
            except queue.Empty:
                pass
        self.process.wait()
        atexit.unregister(self.close)


def as_numpy(column):
    if isinstance(column, pa.FixedShapeTensorArray):
        return column.to_numpy_ndarray()
    if isinstance(column, pa.DictionaryArray):
        return column.indices.to_numpy()
    return column.to_numpy(zero_copy_only=False)


if __name__ == "__main__":
    feed = Feed(*sys.argv[1:])
    begun, rows, energy, seen = time.perf_counter(), 0, 0.0, np.zeros(0, int)
    for batch in feed:
        rows += len(batch["label"])
        energy += batch["ecal"].sum(dtype="f8")  # Your training step.
        counts = np.bincount(batch["label"], minlength=len(feed.classes))
        seen = counts + np.pad(seen, (0, len(counts) - len(seen)))
    seconds = time.perf_counter() - begun
    shares = ", ".join(f"{count} {name}" for name, count in zip(feed.classes, seen))
    print(f"{rows} events in {seconds:.1f} s: {shares}; mean energy in the ECAL {energy / max(rows, 1):.3f}")
    print(f"to go on from here: --start {feed.resume}")
