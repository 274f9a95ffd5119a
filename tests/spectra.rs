//! Weights and copies that give classes another spectrum, from end to end: what must be known of all rows is found before.

mod common;

use common::{Place, assert_same, outputs, two_processes};
use oracle::python;
use std::time::Duration;

/// Signals and backgrounds with pt, eta and a weight of their own; some lie outside the bins, one has no pt.
const EVENTS: &str = r#"
import sys, numpy as np, h5py
random = np.random.default_rng(3)
for name, files, scale in (("signal", 4, 40.0), ("background", 12, 20.0)):
    for k in range(files):
        with h5py.File(f"{sys.argv[1]}/{name}_{k:02d}.h5", "w") as file:
            file["pt"] = 5 + random.exponential(scale, 150)
            file["eta"] = random.normal(0, 1.2 if name == "signal" else 0.8, 150)
            file["w"] = random.uniform(0.5, 1.5, 150)
            if k == 1:
                file["pt"][7] = np.nan
"#;

const SCHEMA: &str = "schema: events\ncolumns:\n  pt: { dataset: pt, kind: number }\n  eta: { dataset: eta, kind: number }\n  w: { dataset: w, kind: number }\n";

const PIPELINE: &str = r#"
pipeline: spectra
params: { out: run }
out: "${out}"
seed: 11
steps:
  events:
    read_hdf5:
      schema: events.yaml
      samples: { signal: data/signal_*.h5, background: data/background_*.h5 }
  central:
    from: events
    keep: abs(eta) < 2
  weighted:
    from: central
    reweight: { to: signal, by: { pt: { edges: [5, 10, 20, 50, 100] }, eta: { range: [-1.4, 1.4], bins: 7 } }, outside: zero }
  again:
    from: weighted
    reweight: { to: signal, by: { eta: { range: [-2, 2], bins: 4 } }, weight: weight, column: second, normalise: own, outside: one }
  files:
    from: again
    write_parquet: {}
  filled:
    from: again
    histogram: { axes: [{ column: eta, range: [-2, 2], bins: 4 }], for_each: sample, weight: second }
  countup:
    from: central
    resample: { to: signal, by: { pt: { edges: [5, 10, 20, 50, 100] } }, events: { background: 900 } }
  counted:
    from: countup
    write_parquet: {}
  pdf:
    from: central
    resample: { to: flat, by: { pt: { range: [5, 65], bins: 3 } }, method: pdf, events: 3000, outside: cut }
  mixed:
    from: pdf
    premix: { shares: equal }
  drawn:
    from: mixed
    write_parquet: {}
"#;

const READ: &str = r#"
import sys, glob, json, numpy as np, pyarrow as pa, pyarrow.parquet as pq, h5py
def rows(step):
    return pa.concat_tables([pq.read_table(p) for p in sorted(glob.glob(f"{sys.argv[1]}/{step}/*.parquet"))])
def read(name):
    files = [h5py.File(p) for p in sorted(glob.glob(f"{sys.argv[1]}/../data/{name}_*.h5"))]
    out = {c: np.concatenate([f[c][:] for f in files]) for c in ("pt", "eta", "w")}
    keep = np.abs(out["eta"]) < 2
    return {c: v[keep] for c, v in out.items()}
signal, background = read("signal"), read("background")
"#;

fn prepared() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).expect("made");
    python(EVENTS, &[&place.path("data")]);
    place.write("events.yaml", SCHEMA);
    place.write("spectra.yaml", PIPELINE);
    place
}

fn check(place: &Place, script: &str) {
    python(&format!("{READ}{script}"), &[&place.path("run")]);
}

#[test]
fn weights_are_the_ratio_of_numpys_histograms() {
    let place = prepared();
    let said = place.calostream(&["run", "-w", "2", "spectra.yaml"]).code(0);
    assert!(said.out.contains("rows outside the bins: weight 0"), "{}", said.out);
    // What the surveys have found is said where everything else is counted, and stays.
    for remark in
        ["weighted: 1 row of `signal` with NaN in eta, pt: weight 0\n", " rows of `background` outside the bins of pt: cut\n"]
    {
        assert!(said.out.contains(remark), "{remark}: {}", said.out);
    }
    assert!(place.read("run/run.json").contains("1 row of `signal` with NaN in eta, pt: weight 0"));
    check(
        &place,
        r#"
table = rows("files").to_pydict()
sample = np.array(table["sample"])
pt, eta = np.array(table["pt"]), np.array(table["eta"])
edges = np.array([5, 10, 20, 50, 100.0]), np.linspace(-1.4, 1.4, 8)
# The published way: counts of the signal over counts of the background in each cell.
s, _, _ = np.histogram2d(signal["pt"], signal["eta"], bins=edges)
b, _, _ = np.histogram2d(background["pt"], background["eta"], bins=edges)
def slot(x, e):
    return np.searchsorted(e, x, side="right") - 1
i, j = slot(pt, edges[0]), slot(eta, edges[1])
inside = (i >= 0) & (i < 4) & (j >= 0) & (j < 7) & ~np.isnan(pt)
ratio = np.zeros(len(pt))
with np.errstate(all="ignore"):
    r = np.where(b > 0, s / b, 0)
ratio[inside] = r[i[inside], j[inside]]
# The signal outside is not used, either.
want = np.where((sample == "signal") & inside, 1.0, ratio)
assert 0 < (want[sample == "signal"] == 0).sum() < 200
got = np.array(table["weight"])
assert np.array_equal(got, want), np.abs(got - want).max()
cells = s[b > 0].sum()
assert abs(got[sample == "background"].sum() - cells) < 1e-6
# The second weight contains the first, and adds up to what the class had.
second = np.array(table["second"])
back = sample == "background"
hs, _ = np.histogram(eta[~back], bins=4, range=(-2, 2), weights=got[~back])
hb, _ = np.histogram(eta[back], bins=4, range=(-2, 2), weights=got[back])
assert abs(second[back].sum() - got[back].sum()) < 1e-6
found, _ = np.histogram(eta[back], bins=4, range=(-2, 2), weights=second[back])
assert np.allclose(found / found.sum(), hs / hs.sum())
filled = pq.read_table(f"{sys.argv[1]}/filled/filled.parquet").to_pydict()
sums = [x for c, low, x in zip(filled["sample"], filled["eta_low"], filled["content"]) if c == "background" and np.isfinite(low) and low < 2]
assert np.allclose(sums, found, rtol=1e-12), (sums, found)
weights = pq.read_table(f"{sys.argv[1]}/weighted/weighted.parquet").to_pydict()
kept = [k for k, low in enumerate(weights["pt_low"]) if low is not None and np.isfinite(low) and np.isfinite(weights["eta_low"][k]) and np.isfinite(weights["pt_high"][k]) and np.isfinite(weights["eta_high"][k])]
assert len(kept) == 28
assert np.array_equal(np.array(weights["weight"])[kept], r.T.ravel())
"#,
    );
}

#[test]
fn copies_make_the_spectrum_that_was_asked_for() {
    let place = prepared();
    place.calostream(&["run", "-w", "2", "spectra.yaml"]).code(0);
    check(
        &place,
        r#"
table = rows("counted").to_pydict()
sample, pt = np.array(table["sample"]), np.array(table["pt"])
edges = [5, 10, 20, 50, 100.0]
s, b = (np.histogram(x["pt"], bins=edges)[0] for x in (signal, background))
target = 900 * s / s.sum()
got = np.histogram(pt[sample == "background"], bins=edges)[0]
mean = target / b
spread = np.sqrt(b * (mean % 1) * (1 - mean % 1))
assert (np.abs(got - target) <= 4 * spread + 1e-9).all(), (got, target, spread)
# Every event as often as the mean says, to within one.
event, copies = np.array(table["event"]), np.array(table["copy"])
for k in range(4):
    of = (sample == "background") & (pt >= edges[k]) & (pt < edges[k + 1])
    times = np.unique(event[of], return_counts=True)[1]
    times = np.concatenate([times, np.zeros(b[k] - len(times))])
    assert set(times) <= {np.floor(mean[k]), np.floor(mean[k]) + 1}, (k, set(times), mean[k])
assert set(copies[sample == "signal"]) == {0} and (sample == "signal").sum() == s.sum() < (np.abs(signal["eta"]) < 2).sum()
for e in np.unique(event)[:200]:
    assert sorted(copies[event == e]) == list(range((event == e).sum()))
# Drawing with replacement: Poisson numbers.
table = rows("drawn").to_pydict()
sample, pt, event = np.array(table["sample"]), np.array(table["pt"]), np.array(table["event"])
for name, x in dict(signal=signal, background=background).items():
    h = np.histogram(x["pt"], bins=3, range=(5, 65))[0]
    of = sample == name
    got = np.histogram(pt[of], bins=3, range=(5, 65))[0]
    if name == "signal":
        share = of.sum() / 3
        assert (np.abs(got - share) < 5 * np.sqrt(1000)).all(), got
    times = np.unique(event[of], return_counts=True)[1]
    assert times.max() > 2
assert (sample == "signal").sum() == (sample == "background").sum()
"#,
    );
    place.calostream(&["verify", "run"]).code(0);
}

#[test]
fn what_is_found_before_does_not_depend_on_workers_processes_or_kills() {
    let place = prepared();
    place.calostream(&["run", "-q", "-w", "1", "spectra.yaml"]).code(0);
    let wanted = outputs(&place.path("run"));
    assert!(wanted.keys().any(|name| name.contains("weighted")), "{:?}", wanted.keys());
    for workers in ["2", "3"] {
        let out = format!("out={workers}");
        place.calostream(&["run", "-q", "-w", workers, "--set", &out, "spectra.yaml"]).code(0);
        assert_same(&format!("{workers} workers"), &wanted, &outputs(&place.path(workers)));
    }
    let both = two_processes(&place, "1").map(|args| {
        let mut all = vec!["run", "spectra.yaml", "--out", "both"];
        all.extend(args.iter().map(String::as_str));
        place.start(&all)
    });
    for one in both {
        one.wait(Duration::from_secs(120)).code(0);
    }
    assert_same("two processes", &wanted, &outputs(&place.path("both")));
    let mut delay = 5;
    loop {
        let mut running = place.start(&["run", "-q", "-w", "2", "--out", "killed", "spectra.yaml"]);
        std::thread::sleep(Duration::from_millis(delay));
        running.kill();
        if running.wait(Duration::from_secs(120)).code.is_some() {
            break;
        }
        delay += 17;
    }
    assert_same("after kills", &wanted, &outputs(&place.path("killed")));
}

#[test]
fn a_file_that_comes_changes_the_weights_of_all() {
    let place = prepared();
    let rest = ["background_10.h5", "background_11.h5", "signal_03.h5"];
    for name in rest {
        std::fs::rename(place.path("data").join(name), place.path(name)).expect("put away");
    }
    place.calostream(&["run", "-q", "spectra.yaml"]).code(0);
    let before = outputs(&place.path("run"));
    for name in rest {
        std::fs::rename(place.path(name), place.path("data").join(name)).expect("put back");
    }
    place.calostream(&["run", "-q", "spectra.yaml"]).code(0);
    place.calostream(&["run", "-q", "--set", "out=afresh", "spectra.yaml"]).code(0);
    let table = "weighted/weighted.csv".to_owned();
    let (went_on, afresh) = (outputs(&place.path("run")), outputs(&place.path("afresh")));
    assert_ne!(before[&table], went_on[&table]);
    assert_eq!(String::from_utf8_lossy(&went_on[&table]), String::from_utf8_lossy(&afresh[&table]));
    let filled = "filled/filled.csv".to_owned();
    assert_eq!(String::from_utf8_lossy(&went_on[&filled]), String::from_utf8_lossy(&afresh[&filled]));
}

#[test]
fn plan_says_what_is_surveyed_and_what_that_reads() {
    let place = prepared();
    let said = place.calostream(&["plan", "spectra.yaml"]).code(0).out;
    let wanted = "surveys rows\n  weighted: what it must know before it works\n  countup: what it must know before it works\n  \
                  pdf: what it must know before it works\n  events: reads pt, eta\n";
    assert!(said.contains(wanted), "{said}");
    assert!(
        said.contains("  again: what it must know before it works\n") && said.contains("  mixed: how many rows go where\n"),
        "{said}"
    );
}

#[test]
fn bins_of_equal_population_are_those_of_numpys_quantiles() {
    let place = prepared();
    let text = r#"
pipeline: populations
out: run
steps:
  events:
    read_hdf5:
      schema: events.yaml
      samples: { signal: data/signal_*.h5, background: data/background_*.h5 }
  central:
    from: events
    keep: abs(eta) < 2
  spread:
    from: central
    resolution: { of: w, by: { pt: { populations: 6 } } }
  passed:
    from: central
    efficiency: { cuts: { heavy: w > 1 }, by: { pt: { populations: 3 }, eta: { range: [-2, 2], bins: 2 } } }
"#;
    place.write("populations.yaml", text);
    place.calostream(&["run", "-q", "-w", "2", "populations.yaml"]).code(0);
    check(
        &place,
        r#"
pt = np.concatenate([signal["pt"], background["pt"]])
w = np.concatenate([signal["w"], background["w"]])[~np.isnan(pt)]
pt = pt[~np.isnan(pt)]
table = pq.read_table(f"{sys.argv[1]}/spread/spread.parquet").to_pydict()
edges = np.array(table["pt_low"] + table["pt_high"][-1:])
assert len(edges) == 7 and edges[0] <= pt.min() and edges[-1] > pt.max()
assert np.allclose(edges[1:-1], np.sort(pt)[[len(pt) * i // 6 for i in range(1, 6)]], rtol=2e-3)
counts = np.histogram(pt, edges)[0]
assert table["n"] == counts.tolist() and sum(counts) == len(pt) and np.ptp(counts) < 12, counts
assert np.allclose(table["bias"], [w[(pt >= a) & (pt < b)].mean() for a, b in zip(edges, edges[1:])])
passed = pq.read_table(f"{sys.argv[1]}/passed/passed.parquet").to_pydict()
assert len({x for x in passed["pt_low"] if x is not None}) == 3
"#,
    );
    let first = outputs(&place.path("run"));
    place.calostream(&["run", "-q", "--fresh", "-w", "3", "populations.yaml"]).code(0);
    assert_same("three workers", &first, &outputs(&place.path("run")));
    let wrong =
        text.replace("{ populations: 6 }", "{ populations: 6, bins: 3 }").replace("{ populations: 3 }", "{ populations: 0 }");
    place.write("wrong.yaml", &wrong);
    let said = place.calostream(&["check", "wrong.yaml"]).code(2).err;
    assert!(said.contains("an axis has either `populations`, or `range` and `bins`, or `edges`"), "{said}");
    assert!(said.contains("0 bins") && said.contains("give 1 to 1000"), "{said}");
}
