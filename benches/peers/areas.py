"""Areas under ROC curves of 4 classes in 10 bins and in all rows, with scikit-learn: `areas.py ROWS TIMES`.

Columns are in memory, and rows are put into bins once for all classes. Prints the least seconds of all repetitions.
"""

import sys
import time

import numpy as np
from sklearn.metrics import roc_auc_score

CLASSES, BINS = 4, 10


def areas(klass, energy, scores):
    cell = np.digitize(energy, np.linspace(10, 510, BINS + 1))
    bins = [np.flatnonzero(cell == b) for b in range(1, BINS + 1)]
    found = []
    for c in range(CLASSES):
        signal, score = klass == c, scores[c]
        found.append(roc_auc_score(signal, score))
        found += [roc_auc_score(signal[rows], score[rows]) for rows in bins]
    return found


if __name__ == "__main__":
    rows, times = int(sys.argv[1]), int(sys.argv[2])
    rng = np.random.default_rng(1)
    klass, energy = rng.integers(0, CLASSES, rows), rng.uniform(5, 520, rows)
    logits = [np.where(klass == c, 1, -1) + 2 * rng.normal(size=rows) for c in range(CLASSES)]
    scores = [1 / (1 + np.exp(-logit)) for logit in logits]
    least = float("inf")
    for _ in range(times):
        begun = time.perf_counter()
        areas(klass, energy, scores)
        least = min(least, time.perf_counter() - begun)
    print(least)
