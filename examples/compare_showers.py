"""Compares generated showers with a Geant4 sample in the LCD layout; exit status 1 where they disagree.

    .deps/venv/bin/python examples/compare_showers.py GENERATED GEANT4

For electrons, photons and pi0, in three bins of energy from 50 to 500 GeV: the mean longitudinal profile in layers that
hold at least 1 % of the visible energy, the visible energy in ECAL and behind it, the resolution, the occupancy. Each
must agree within 15 % or three standard errors of both samples, whichever is larger. Pions and sizes are only shown.
"""

import glob
import os
import sys

import h5py
import numpy as np

BINS = [50, 200, 350, 500]


def load(folder, name):
    parts = []
    for path in sorted(glob.glob(f"{folder}/{name}Escan_1_*.h5")):
        with h5py.File(path) as file:
            parts.append((file["ECAL"][:], file["HCAL"][:], file["target"][:, 1], os.path.getsize(path)))
    ecal, hcal, energy, size = zip(*parts)
    return np.concatenate(ecal), np.concatenate(hcal), np.concatenate(energy), sum(size)


def mean(x):
    return x.mean(0), x.std(0, ddof=1) / np.sqrt(len(x))


def spread(x):
    """Standard deviation over mean, its error by the jackknife."""
    one = np.array([np.std(np.delete(x, k), ddof=1) / np.delete(x, k).mean() for k in range(len(x))])
    n = len(x)
    return x.std(ddof=1) / x.mean(), np.sqrt((n - 1) ** 2 / n * one.var(ddof=1))


def quantities(ecal, hcal, energy):
    layers = ecal.sum((1, 2), dtype=float)
    weights = np.r_[np.ones(17), 2 * np.ones(8)]
    yield "visible in ECAL", mean(layers.sum(1) / energy)
    yield "visible, thick layers twice", mean(layers @ weights / energy)
    yield "resolution", spread(layers.sum(1) / energy)
    yield "resolution, thick layers twice", spread(layers @ weights / energy)
    yield "occupancy", mean((ecal > 0).mean((1, 2, 3)))
    yield "share of the central cell", mean(ecal[:, 12, 12].sum(1) / layers.sum(1))
    yield "share of the last six layers", mean(layers[:, 19:].sum(1) / layers.sum(1))
    yield "visible in HCAL", mean(hcal.sum((1, 2, 3), dtype=float) / energy)
    yield "occupancy of HCAL", mean((hcal > 0).mean((1, 2, 3)))


CHECKED = {"visible in ECAL", "visible, thick layers twice", "resolution", "resolution, thick layers twice", "occupancy", "share of the last six layers"}


def main(generated, geant4):
    wrong = 0
    for name in ("Ele", "Gamma", "Pi0", "ChPi"):
        ours, theirs = load(generated, name), load(geant4, name)
        print(f"\n{name}: {ours[3] / len(ours[2]) / 1e3:.1f} kB an event, {theirs[3] / len(theirs[2]) / 1e3:.1f} in the sample")
        for which, k in (("ECAL", 0), ("HCAL", 1)):
            spectra = [np.quantile(np.log10(s[k][s[k] > 0]), [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]) for s in (ours, theirs)]
            print(f"  log10 of {which} cells at 1 5 25 50 75 95 99 %:", *(np.round(s, 2) for s in spectra))
        for low, high in zip(BINS[:-1], BINS[1:]):
            cut = [tuple(a[(s[2] >= low) & (s[2] < high)] for a in s[:3]) for s in (ours, theirs)]
            print(f"  {low} to {high} GeV: {len(cut[0][2])} against {len(cut[1][2])} events")
            rows = [(q, a, b, q in CHECKED) for (q, a), (_, b) in zip(quantities(*cut[0]), quantities(*cut[1]))]
            (p, dp), (q, dq) = (mean(c[0].sum((1, 2), dtype=float) / c[2][:, None]) for c in cut)
            rows += [(f"layer {i}", (p[i], dp[i]), (q[i], dq[i]), q[i] > 0.01 * q.sum()) for i in range(25)]
            for what, (a, da), (b, db), checked in rows:
                checked &= name != "ChPi"
                bad = checked and abs(a - b) > max(0.15 * abs(b), 3 * np.hypot(da, db))
                wrong += bad
                if bad or not what.startswith("layer") or "-v" in sys.argv:
                    print(f"    {what:32} {a:9.3g} {b:9.3g} +- {np.hypot(da, db):.1g}  ratio {a / b:.3f}{'' if checked else ' (shown)'}{'   DISAGREES' if bad else ''}")
            shown = np.where(q > 0.01 * q.sum())[0]
            print("    layers", f"{shown[0]} to {shown[-1]}, ratio:", np.round((p / q)[shown], 2))
    sys.exit(f"{wrong} disagree" if wrong else 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
