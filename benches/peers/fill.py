"""A weighted histogram by boost-histogram with two threads: `fill.py NX NY NZ ROWS TIMES`; or mean, sigma and five quantiles in
200 bins by duckdb: `fill.py duckdb ROWS TIMES`. Float32 columns in memory. Prints the least seconds of all repetitions.
"""

import sys
import time

import numpy as np


def columns(rows, classes):
    rng = np.random.default_rng(1)
    x, y, z, w = (rng.random(rows, dtype="f4") for _ in range(4))
    return x, y, np.floor(4 * z) if classes else z, w + np.float32(0.5)


def least(times, work):
    best = float("inf")
    for _ in range(times):
        begun = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begun)
    return best


if sys.argv[1] == "duckdb":
    import duckdb
    import pyarrow as pa

    rows, times = map(int, sys.argv[2:])
    x, _, _, w = columns(rows, True)
    connection = duckdb.connect()
    connection.execute("set threads = 2")
    connection.register("arrow", pa.table({"x": x, "w": w}))
    connection.execute("create table events as select * from arrow")
    query = """select floor(x * 200) as bin, avg(w), stddev_pop(w), approx_quantile(w, [0.025, 0.1587, 0.5, 0.8413, 0.975])
               from events group by bin order by bin"""
    print(least(times, lambda: connection.execute(query).fetchall()))
else:
    import boost_histogram as bh

    nx, ny, nz, rows, times = map(int, sys.argv[1:])
    x, y, z, w = columns(rows, nz == 4)

    def fill():
        axes = [bh.axis.Regular(nx, 0, 1), bh.axis.Regular(ny, 0, 1), bh.axis.Regular(nz, 0, 4 if nz == 4 else 1)]
        bh.Histogram(*axes, storage=bh.storage.Weight()).fill(x, y, z, weight=w, threads=2)

    print(least(times, fill))
