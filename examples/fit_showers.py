"""Fits the numbers in operators/shower/ to a Geant4 sample in the LCD layout and prints them.

    .deps/venv/bin/python examples/fit_showers.py FOLDER

Electrons give everything electromagnetic:
  longitudinal  every shower's visible energy by layer is fitted with E * s * gamma(t; alpha, T) at the depths of the
                silicon; means and spreads of alpha, T and s over the sample, linear in ln E
  radial        images stacked in bins of tau = t / T are fitted at once with three terms 2 r R^2 / (r^2 + R^2)^2,
                integrated over the cells in closed form
  spots         the spectrum of single deposits is that of cells far from the axis, where two in a cell are rare
Pions give the spectrum of single deposits in HCAL (its corner cells). Photons and pi0 have no numbers of their own.
"""

import sys

import h5py
import numpy as np
from scipy.optimize import minimize
from scipy.stats import gamma

CELL, X0_W, X0_FE, X0_SI, X0_SC = 5.1, 3.504, 17.57, 93.7, 413.1
STEP = np.r_[np.full(17, 2.4), np.full(8, 4.8)] / X0_W + 0.5 / X0_SI
DEPTH = np.cumsum(STEP)
HCAL_DEPTH = DEPTH[-1] + np.cumsum(np.full(60, 19 / X0_FE + 3 / X0_SC))


def load(folder, name):
    with h5py.File(f"{folder}/{name}Escan_1_1.h5") as file:
        return file["ECAL"][:], file["HCAL"][:], file["target"][:, 1]


def longitudinal(ecal, energy):
    """ln(alpha), ln(T), ln(s) of each shower."""
    found = []
    for image, e in zip(ecal, energy):
        y = image.sum((0, 1), dtype=float) / e

        def cost(p):
            alpha, top = np.exp(p[0]), np.exp(p[1])
            if not (1.05 < alpha < 40 and top < 30):
                return 1e9
            m = np.exp(p[2]) * gamma.pdf(DEPTH, alpha, scale=top / (alpha - 1))
            return 1e3 * np.sum(((y - m) ** 2 / (m + 2e-5))[:24])

        start = [np.log(2 + 0.8 * np.log(e)), np.log(4 + np.log(e)), -3.81]
        found.append(minimize(cost, start, method="Nelder-Mead", options=dict(maxiter=3000, xatol=1e-4, fatol=1e-6)).x)
    return np.array(found)


def square(edges, radius):
    """The share of each cell of a radial term: the integral of R^2 / (pi (x^2 + y^2 + R^2)^2), in closed form."""
    x, y = np.meshgrid(edges, edges, indexing="ij")
    a, b = np.hypot(x, radius), np.hypot(y, radius)
    corner = (x / a * np.arctan(y / a) + y / b * np.arctan(x / b)) / (2 * np.pi)
    return np.diff(np.diff(corner, axis=0), axis=1)


def shares(q, tau):
    core = 1 / (1 + np.exp(-(q[0] + q[1] * tau + q[2] * tau**2)))
    halo = 1 / (1 + np.exp(-(q[3] + q[4] * tau)))
    radii = np.exp([q[5] + q[6] * tau + q[7] * tau**2, q[8] + q[9] * tau, q[10] + q[11] * tau])
    return core, halo, radii


def radial(ecal, energy, top):
    tau = DEPTH[None] / top[:, None]
    bins = [0.15, 0.3, 0.45, 0.6, 0.8, 1, 1.2, 1.5, 1.8, 2.2, 2.8]
    stacked = []
    for low, high in zip(bins[:-1], bins[1:]):
        w = (tau >= low) & (tau < high) & (energy > 30)[:, None]
        w[:, 24] = False
        image = np.einsum("nxyl,nl->xy", ecal, w / energy[:, None])
        stacked.append((tau[w].mean(), image / image.sum(), image.sum()))
    edges = (np.arange(26) - 12.5) * CELL

    def image(q, tau):
        core, halo, (r1, r2, r3) = shares(q, tau)
        return core * square(edges, r1) + (1 - core) * ((1 - halo) * square(edges, r2) + halo * square(edges, r3))

    def cost(q):
        if not np.all(np.abs(q) < 10):
            return 1e9
        total = 0
        for tau, share, _ in stacked:
            m = image(q, tau)
            total -= 1e3 * np.sum(share * np.log(m / m.sum()))
        return total

    q = np.array([1.0, -1, 0, -1.2, 0.1, -0.4, 0.9, -0.1, 1.8, 0.1, 3.2, -0.1])
    for _ in range(6):
        q = minimize(cost, q, method="Nelder-Mead", options=dict(maxiter=4000, maxfev=4000, adaptive=True)).x
    r = np.hypot(*np.meshgrid(edges[:-1] + CELL / 2, edges[:-1] + CELL / 2))
    rings = [0, 1, 6, 8, 12, 18, 25, 35, 50, 90]
    for tau, share, _ in stacked:
        m = image(q, tau)
        ratio = [m[i].sum() / m.sum() / share[i].sum() for i in ((r >= a) & (r < b) for a, b in zip(rings, rings[1:]))]
        print(f"  tau {tau:.2f} window {m.sum():.3f} fit / sample by ring", np.round(ratio, 2))
    return q


def spectrum(values):
    return np.quantile(np.log(values), np.r_[0.002, 0.01, np.linspace(0, 1, 33)[1:-1], 0.999])


def main(folder):
    ecal, hcal, energy = load(folder, "Ele")
    fits = longitudinal(ecal, energy)
    lne = np.log(energy)
    good = (energy > 25) & (np.abs(fits[:, 2] + 3.81) < 0.1)
    print("showers", good.sum(), "of", len(good))
    for name, y in (("alpha", np.exp(fits[:, 0])), ("T", np.exp(fits[:, 1])), ("ln s", fits[:, 2])):
        slope, at = np.polyfit(lne[good], y[good], 1)
        rest = (y - at - slope * lne)[good]
        print(f"{name} = {at:.4f} + {slope:.4f} ln E, spread {rest.std():.4f}")
    la, lt = fits[good, 0], fits[good, 1]
    for low, high in ((25, 125), (125, 250), (250, 510)):
        k = good & (energy > low) & (energy < high)
        a = fits[k, 0] - np.polyval(np.polyfit(lne[good], la, 1), lne[k])
        t = fits[k, 1] - np.polyval(np.polyfit(lne[good], lt, 1), lne[k])
        print(f"  {low} to {high}: spread of ln alpha {a.std():.3f}, of ln T {t.std():.3f}, correlation {np.corrcoef(a, t)[0, 1]:.2f}, of ln s {(fits[k,2]).std():.4f}")

    m = np.array([np.exp(f[2]) * gamma.pdf(HCAL_DEPTH[:10], np.exp(f[0]), scale=np.exp(f[1]) / (np.exp(f[0]) - 1)) for f in fits[good]])
    print("HCAL: sample / tail of the fit", np.round((hcal[good].sum((1, 2))[:, :10] / energy[good, None]).mean(0) / m.mean(0), 2))
    last = np.array([np.exp(f[2]) * gamma.pdf(DEPTH, np.exp(f[0]), scale=np.exp(f[1]) / (np.exp(f[0]) - 1)) for f in fits[good]])
    print("ECAL: sample / fit", np.round((ecal[good].sum((1, 2)) / energy[good, None]).mean(0) / last.mean(0), 2))
    print("ECAL first layers, MeV", np.round(1e3 * ecal[good].sum((1, 2)).mean(0)[:5], 2), "fit", np.round(1e3 * (last * energy[good, None]).mean(0)[:5], 2))

    q = radial(ecal, energy, np.exp(fits[:, 1]).clip(4, 14))
    print("radial", np.round(q, 4).tolist())

    index = np.arange(25) - 12
    r = CELL * np.hypot(*np.meshgrid(index, index))
    far = ecal[energy < 300][:, (r > 48)][:, :, 4:22]
    far = far[far > 0].astype(float)
    print("ECAL spots: mean", far.mean(), "<x^2>/<x>^2", (far**2).mean() / far.mean() ** 2, np.round(spectrum(far), 3).tolist())
    edge = np.ones((5, 5), bool)
    edge[1:4, 1:4] = False
    far = hcal[:, edge]
    far = far[far > 0].astype(float)
    print("HCAL spots of electrons: mean", far.mean(), "<x^2>/<x>^2", (far**2).mean() / far.mean() ** 2, np.round(spectrum(far), 3).tolist())

    ecal, hcal, energy = load(folder, "ChPi")
    corner = np.zeros((5, 5), bool)
    corner[np.ix_([0, 4], [0, 4])] = True
    far = hcal[:, corner]
    far = far[far > 0].astype(float)
    print("HCAL spots of pions: mean", far.mean(), "<x^2>/<x>^2", (far**2).mean() / far.mean() ** 2, np.round(spectrum(far), 3).tolist())
    mips = ecal.sum((1, 2))
    mips = mips[mips.sum(1) < 0.01][:, :20].ravel()
    print("minimum ionising: ECAL", np.quantile(mips, [0.1, 0.5, 0.9]))


if __name__ == "__main__":
    main(sys.argv[1])
