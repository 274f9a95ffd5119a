//! Headers that are kept in the run folder: planning over the same files opens none of them, and a changed file never passes
//! for the old one.

mod common;

use common::{Place, STREAMING, assert_same, tables};
use oracle::python;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

/// Two files of each of two classes that nobody has written to for a while, and a first run over them.
fn prepared() -> Place {
    let place = Place::new();
    place.showers(20, 10, 1);
    place.write("run.yaml", STREAMING);
    // Younger files are not kept.
    std::thread::sleep(Duration::from_millis(2_100));
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    assert!(place.path("run/headers.zst").exists());
    place
}

/// The same command, beside a reader program that can't read anything.
fn without_reader(place: &Place, args: &[&str]) -> std::process::Output {
    let bin = place.path("bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).expect("made");
        std::fs::copy(common::program(), bin.join("calostream")).expect("copied");
        std::fs::write(bin.join("calostream-reader"), "#!/bin/sh\nkill -SEGV $$\n").expect("written");
        std::fs::set_permissions(bin.join("calostream-reader"), std::fs::Permissions::from_mode(0o755)).expect("made a program");
    }
    let mut command = std::process::Command::new(bin.join("calostream"));
    command.current_dir(place.path("")).args(args).output().expect("calostream starts")
}

fn plan(place: &Place) -> String {
    place.calostream(&["plan", "run.yaml"]).code(0).out
}

#[test]
fn known_files_are_planned_and_read_without_the_library() {
    let place = prepared();
    let known = without_reader(&place, &["plan", "run.yaml"]);
    assert_eq!(known.status.code(), Some(0), "{}", String::from_utf8_lossy(&known.stderr));
    assert_eq!(String::from_utf8_lossy(&known.stdout), plan(&place));
    // The chunk indices are known as well, so a whole run does without.
    let events = tables(&place.path("run"), &["energies"]);
    std::fs::rename(place.path("run/headers.zst"), place.path("headers.zst")).expect("moved");
    std::fs::create_dir(place.path("again")).expect("made");
    std::fs::rename(place.path("headers.zst"), place.path("again/headers.zst")).expect("moved");
    let run = without_reader(&place, &["run", "-q", "run.yaml", "--out", "again"]);
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    assert_same("tables", &events, &tables(&place.path("again"), &["energies"]));
    let other = without_reader(&place, &["plan", "run.yaml", "--set", "out=elsewhere"]);
    assert_eq!(other.status.code(), Some(2), "nothing is known there");
}

#[test]
fn a_damaged_or_foreign_cache_counts_for_nothing() {
    let place = prepared();
    let (wanted, good) = (plan(&place), std::fs::read(place.path("run/headers.zst")).expect("there"));
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    for damaged in [&good[..good.len() - 1], &good[..10], b"", &flipped, &[&good[..], b"x"].concat()] {
        std::fs::write(place.path("run/headers.zst"), damaged).expect("written");
        assert_eq!(plan(&place), wanted);
        assert_eq!(without_reader(&place, &["plan", "run.yaml"]).status.code(), Some(2));
    }
    // The next run makes it good again; a file that can't be written costs nothing.
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    assert_eq!(without_reader(&place, &["plan", "run.yaml"]).status.code(), Some(0));
    std::fs::remove_file(place.path("run/headers.zst")).expect("removed");
    std::fs::create_dir(place.path("run/headers.zst")).expect("a folder in its place");
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
}

/// Files of more chunks than travel with a header.
const LONG: &str = "
import h5py, numpy as np, os, sys
os.mkdir(sys.argv[1]); os.chdir(sys.argv[1])
r = np.random.RandomState(3)
for name, n, grows in (('a', 9000, (None, 6, 6)), ('b', 700, (None, 6, 6)), ('c', 700, (None, None, 6))):
    with h5py.File(name + '.h5', 'w', libver='latest') as f:
        e = r.rand(n, 6, 6) * (r.rand(n, 6, 6) < .3)
        f.create_dataset('ECAL', data=e.astype('f4'), chunks=(2, 3, 6), maxshape=grows, compression='gzip')
        f['target'] = np.arange(n, dtype='f8')";
const LONG_SCHEMA: &str =
    "schema: long\ncolumns:\n  ecal: { dataset: ECAL, kind: hits, value: energy }\n  energy: { dataset: target }\n";
const LONG_RUN: &str = "pipeline: long\nout: run\nsteps:\n  events:\n    read_hdf5: { schema: ./long.yaml, files: data/*.h5 }\n  \
                        parts:\n    from: events\n    write_parquet: {}\n";

#[test]
fn long_chunk_indices_are_taken_once_and_damaged_ones_again() {
    let place = Place::new();
    python(LONG, &[&place.path("data")]);
    place.write("long.yaml", LONG_SCHEMA);
    place.write("run.yaml", LONG_RUN);
    std::thread::sleep(Duration::from_millis(2_100));
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let kept = || -> Vec<_> {
        let folder = std::fs::read_dir(place.path("run/.chunks")).expect("kept");
        folder.map(|e| e.expect("an entry").path()).collect()
    };
    assert_eq!(kept().len(), 3);
    let values = "
import glob, h5py, numpy as np, pyarrow.parquet as p, sys
want = np.concatenate([h5py.File(f)['ECAL'][:] for f in sorted(glob.glob(sys.argv[2] + '/*.h5'))])
rows = sorted((r['file'], r['row'], r['ecal']) for f in glob.glob(sys.argv[1] + '/parts/*') for r in p.read_table(f).to_pylist())
got = np.zeros((len(want), 36), 'f4')
for i, (_, _, hits) in enumerate(rows):
    for h in hits: got[i, h['cell']] = h['energy']
print(len(rows), (got.reshape(want.shape) == want).all())";
    let right = |out: &str| assert_eq!(python(values, &[&place.path(out), &place.path("data")]), "10400 True\n");
    right("run");
    // What was taken is enough for another run, which has no reader to ask.
    let again = |out: &str| {
        std::fs::create_dir_all(place.path(out).join(".chunks")).expect("made");
        std::fs::copy(place.path("run/headers.zst"), place.path(out).join("headers.zst")).expect("copied");
        for file in kept() {
            std::fs::copy(&file, place.path(out).join(".chunks").join(file.file_name().expect("a name"))).expect("copied");
        }
        without_reader(&place, &["run", "-q", "run.yaml", "--out", out])
    };
    let run = again("again");
    assert_eq!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stderr));
    right("again");
    // Damage anywhere is noticed: without a reader nothing is read, with one the index is taken again.
    let file = kept().remove(0);
    let good = std::fs::read(&file).expect("read");
    for at in [3, good.len() / 2, good.len() - 100, good.len() - 10] {
        let mut bad = good.clone();
        bad[at] ^= 8;
        std::fs::write(&file, bad).expect("written");
        let run = again(&format!("damaged-{at}"));
        assert_ne!(run.status.code(), Some(0), "byte {at}");
        let out = format!("repaired-{at}");
        std::fs::create_dir_all(place.path(&out)).expect("made");
        std::fs::rename(place.path("run/.chunks"), place.path(&out).join(".chunks")).expect("moved");
        place.calostream(&["run", "-q", "run.yaml", "--out", &out]).code(0);
        right(&out);
        std::fs::rename(place.path(&out).join(".chunks"), place.path("run/.chunks")).expect("moved");
        assert_eq!(std::fs::read(&file).expect("read"), good);
    }
    // What belongs to no input any more goes.
    std::fs::remove_file(place.path("data/b.h5")).expect("removed");
    place.calostream(&["run", "-q", "run.yaml", "--fresh"]).code(0);
    assert_eq!(kept().len(), 2);
}

#[test]
fn a_changed_file_is_looked_at_again() {
    let place = prepared();
    let file = place.path("data/EleEscan_1_1.h5");
    let times = std::fs::metadata(&file).and_then(|m| Ok((m.accessed()?, m.modified()?))).expect("times");
    let fingerprint = |place: &Place| {
        let said = place.calostream(&["inspect", "data/EleEscan_1_1.h5"]).code(0).out;
        said.split("fingerprint ").nth(1).expect("a fingerprint")[..32].to_owned()
    };
    let before = fingerprint(&place);
    // Other values, of the same size, with the old times put back as `cp -p` and `rsync -t` do.
    let script = "
import h5py, sys
with h5py.File(sys.argv[1], 'r+') as f: f['target'][0, 1] += 1";
    python(script, &[&file]);
    let set = std::fs::FileTimes::new().set_accessed(times.0).set_modified(times.1);
    std::fs::OpenOptions::new().write(true).open(&file).and_then(|f| f.set_times(set)).expect("times are set");
    assert_ne!(fingerprint(&place), before);
    let said = place.calostream(&["run", "-q", "run.yaml"]).code(1);
    assert!(said.err.contains("data/EleEscan_1_1.h5 has changed since this run folder read it"), "{}", said.err);
    place.calostream(&["run", "-q", "run.yaml", "--fresh"]).code(0);
    assert!(place.read("run/units.jsonl").contains(&fingerprint(&place)));
}

#[test]
fn a_file_that_was_just_written_is_not_kept() {
    let place = Place::new();
    place.showers(20, 10, 1);
    place.write("run.yaml", STREAMING);
    let file = place.path("data/EleEscan_1_1.h5");
    std::thread::sleep(Duration::from_millis(2_100));
    std::fs::OpenOptions::new().write(true).open(&file).and_then(|f| f.set_modified(SystemTime::now())).expect("touched");
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    // The three others are known.
    let said = without_reader(&place, &["plan", "run.yaml"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.contains("EleEscan_1_1.h5") && said.contains("crashed"), "{said}");
    assert!(!said.contains("EleEscan_1_2.h5: the HDF5") && !said.contains("GammaEscan_1_1.h5: the HDF5"), "{said}");
}
