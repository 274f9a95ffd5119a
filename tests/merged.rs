//! One HDF5 file of all parts: what stands in it, for h5py and for our own reader; that its bytes are the same whatever the
//! workers, processes and kills; and what becomes of the parts.

mod common;

use common::{Place, assert_same, outputs, two_processes, until};
use oracle::python;
use std::path::Path;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(180);
const PIPELINE: &str = include_str!("common/merged.yaml");
const SMALL: &str = include_str!("common/small.yaml");

fn prepared() -> Place {
    let place = Place::new();
    place.showers(48, 16, 1);
    place.write("merged.yaml", PIPELINE);
    place.write("small.yaml", SMALL);
    place
}

fn names(place: &Place, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(place.path(folder)).expect("a folder");
    let mut names: Vec<String> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The rows of Parquet parts and of a merged file, side by side.
const SAME_ROWS: &str = "
import sys, glob, h5py, numpy as np, pyarrow as pa, pyarrow.parquet as pq
run = sys.argv[1]
def rows(step):
    return pa.concat_tables([pq.read_table(p) for p in sorted(glob.glob(f'{run}/{step}/*.parquet'))])
def dense(column, shape):
    column = column.combine_chunks()
    image, event = np.zeros((len(column), int(np.prod(shape))), 'f4'), np.repeat(np.arange(len(column)), np.diff(column.offsets))
    image[event, column.flatten().field('cell')] = column.flatten().field('energy')
    return image.reshape(-1, *shape)
def numbers(t, *names):
    return np.stack([np.zeros(len(t)) if n == 'zero' else t[n].to_numpy().astype('f8') for n in names], 1)

t, f = rows('same'), h5py.File(f'{run}/train/train.h5')
assert sorted(f) == ['ECAL', 'HCAL', 'OneHot', 'index', 'target'], list(f)
assert f['ECAL'].chunks == (16, 25, 25, 25) and f['ECAL'].shape == (len(t), 25, 25, 25) and len(t) > 100, f['ECAL'].shape
assert (f['ECAL'][:] == dense(t['ecal'], (25, 25, 25))).all() and (f['HCAL'][:] == dense(t['hcal'], (5, 5, 60))).all()
target = f['target']
assert target.shape == (len(t), 1, 5) and target.dtype == 'f8'
assert (target[:, 0] == numbers(t, 'pdg', 'energy', 'px', 'zero', 'zero')).all()
mass = np.array([{11: .000511, 22: 0, 111: .13498, 211: .13957}[abs(p)] for p in t['pdg'].to_pylist()])
assert np.allclose(target[:, 0, 1]**2 - target[:, 0, 2]**2, mass**2, atol=1e-5)
called = {'electron': 'Ele', 'photon': 'Gamma', 'pi0': 'Pi0', 'pion': 'ChPi'}
classes = ['Pi0', 'Ele', 'ChPi', 'Gamma']
index = np.array([classes.index(called[s]) for s in t['sample'].to_pylist()])
assert list(f['OneHot'].attrs['classes']) == list(f['index'].attrs['classes']) == classes
assert (f['index'][:] == index).all() and (f['OneHot'][:] == np.eye(4)[index]).all()
# A mix: every stretch has all classes.
assert all(len(set(index[k:k + 12])) == 4 for k in range(0, len(index) - 12, 12))

t, f = rows('cut_rows'), h5py.File(f'{run}/cut/cut.h5')
assert len(t) > 2048 and f['HCAL'].shape == (len(t), 5, 5, 60) and (f['HCAL'][:] == dense(t['hcal'], (5, 5, 60))).all()
assert (f['target'][:] == numbers(t, 'pdg', 'energy')).all() and (t['energy'].to_numpy() > 10.5).all()
classes = ['photon', 'pion', 'pi0', 'electron']
assert list(f['OneHot'].attrs['classes']) == classes
index = np.array([classes.index(s) for s in t['sample'].to_pylist()])
assert (f['OneHot'][:] == np.eye(4)[index]).all()

f = h5py.File(f'{run}/ordered/ordered.h5')
assert len(f['target']) == 5200 and list(f['of/index'].attrs['classes']) == ['electron', 'photon', 'pi0', 'pion']

# In the order of the files, and the same rows as in the parts that stay.
f, seen = h5py.File(f'{run}/plain/plain.h5'), []
for p in glob.glob(f'{run}/plain/*_*.h5'):
    with h5py.File(p) as part:
        seen.append((part['target'][0].tobytes(), [part[d][:] for d in sorted(part)]))
first = {row.tobytes(): k for k, row in enumerate(f['target'][:])}
seen.sort(key=lambda part: first[part[0]])
for d, all_of in zip(sorted(f), zip(*(part[1] for part in seen))):
    assert (f[d][:] == np.concatenate(all_of)).all(), d
assert f['ECAL'].shape[0] == 192 and list(f['index'].attrs['classes']) == ['electron', 'photon', 'pi0', 'pion']
";

#[test]
fn h5py_and_our_own_reader_find_the_rows_in_their_order() {
    let place = prepared();
    let said = place.calostream(&["run", "merged.yaml", "-w", "2"]).code(0);
    assert!(said.err.contains("train: putting 1 part ("), "{}", said.err);
    assert!(said.err.contains(") together to train.h5\n"), "{}", said.err);
    python(SAME_ROWS, &[&place.path("run")]);
    assert_eq!(names(&place, "run/train"), ["train.h5"], "the parts are gone");
    assert_eq!(names(&place, "run/ordered"), ["ordered.h5"]);
    // What took the place of parts is verified in their place.
    place.calostream(&["verify", "run"]).code(0).complains("");
    let whole = std::fs::read(place.path("run/train/train.h5")).expect("a file");
    std::fs::remove_file(place.path("run/train/train.h5")).expect("removed");
    let said = place.calostream(&["run", "merged.yaml", "-w", "2"]).code(0);
    assert!(
        said.err.contains("1 file is not there any more, or not as long as written, and made again: train/train.h5\n"),
        "{}",
        said.err
    );
    assert!(std::fs::read(place.path("run/train/train.h5")).expect("made again") == whole, "the same bytes");
    assert_eq!(names(&place, "run/train"), ["train.h5"]);
    assert_eq!(
        names(&place, "run/plain"),
        ["electron_1.h5", "photon_1.h5", "pi0_1.h5", "pion_1.h5", "plain.h5"],
        "they have a name"
    );
    assert!(names(&place, "run/same").len() == 1 && names(&place, "run/cut_rows").len() > 1);

    let back = "pipeline: back\nout: back\nsteps:\n  events:\n    read_hdf5: { schema: lcd-merged, files: run/train/train.h5 }\n  rows:\n    from: \
                events\n    write_parquet: {}\n  again:\n    from: events\n    write_hdf5: { schema: lcd-merged, merged: train.h5, chunk: 16 }\n";
    place.write("back.yaml", back);
    place.calostream(&["run", "-q", "back.yaml"]).code(0);
    let look = "
import sys, glob, h5py, pyarrow as pa, pyarrow.parquet as pq
run, back = sys.argv[1:]
table = lambda folder: pa.concat_tables([pq.read_table(p) for p in sorted(glob.glob(f'{folder}/*.parquet'))])
was, now = table(f'{run}/same'), table(f'{back}/rows')
for name in ('ecal', 'hcal', 'energy', 'px', 'py', 'pz', 'pdg'):
    assert was[name].to_pylist() == now[name].to_pylist(), name
called = {'electron': 'Ele', 'photon': 'Gamma', 'pi0': 'Pi0', 'pion': 'ChPi'}
assert [called[s] for s in was['sample'].to_pylist()] == now['class'].to_pylist()
assert [['Pi0', 'Ele', 'ChPi', 'Gamma'][i] for i in now['index'].to_pylist()] == now['class'].to_pylist()
one, other = h5py.File(f'{run}/train/train.h5'), h5py.File(f'{back}/again/train.h5')
assert sorted(one) == sorted(other) and all((one[d][:] == other[d][:]).all() for d in one)";
    python(look, &[&place.path("run"), &place.path("back")]);
}

#[test]
fn workers_and_processes_do_not_change_a_byte_of_it() {
    let place = prepared();
    place.calostream(&["run", "-q", "merged.yaml", "-w", "1", "--out", "w1"]).code(0);
    let one = outputs(&place.path("w1"));
    for workers in ["2", "3"] {
        place.calostream(&["run", "-q", "merged.yaml", "-w", workers, "--out", "more"]).code(0);
        assert_same(&format!("{workers} workers"), &one, &outputs(&place.path("more")));
        std::fs::remove_dir_all(place.path("more")).expect("removed");
    }
    let both = two_processes(&place, "1").map(|args| {
        let mut all = vec!["run", "-q", "merged.yaml", "--out", "two"];
        all.extend(args.iter().map(String::as_str));
        place.start(&all)
    });
    for process in both {
        process.wait(LONG).code(0);
    }
    assert_same("two processes", &one, &outputs(&place.path("two")));
}

#[test]
fn killed_again_and_again_it_ends_with_the_same_bytes() {
    let place = prepared();
    // From the moment on at which all parts are there.
    let all_parts = |out: &str| {
        let mut running = place.start(&["run", "-q", "merged.yaml", "-w", "2", "--out", out]);
        let staging = place.path(out).join(".staging/train-assembled");
        while !running.ended() && !staging.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        running
    };
    let running = all_parts("whole");
    let start = Instant::now();
    running.wait(LONG).code(0);
    let end = start.elapsed();
    let wanted = outputs(&place.path("whole"));
    let effort: u32 = std::env::var("CALOSTREAM_EFFORT").ok().map_or(1, |n| n.parse().expect("CALOSTREAM_EFFORT is a number"));
    let (mut killed, mut round, mut putting) = (0, 0, 0);
    while killed < 6 * effort {
        let out = format!("killed-{round}");
        let mut running = all_parts(&out);
        // The golden ratio spreads the moments.
        std::thread::sleep(end.mul_f64((f64::from(killed + round) * 0.618_034).fract()));
        running.kill();
        let said = running.wait(LONG);
        if said.code.is_some() {
            said.code(0);
            assert_same(&format!("after {killed} kills"), &wanted, &outputs(&place.path(&out)));
            round += 1;
            assert!(round < 6 * effort + 5, "the runs are too quick to be killed");
            continue;
        }
        killed += 1;
        let under_way = |step: &str| place.path(&out).join(format!(".staging/{step}-assembled")).exists();
        putting += u32::from(["train", "plain", "ordered", "cut"].into_iter().any(under_way));
    }
    assert!(putting > 0, "no kill met a file under way");
    let out = format!("killed-{round}");
    place.calostream(&["run", "-q", "merged.yaml", "-w", "3", "--out", &out]).code(0);
    assert_same("after the last kill", &wanted, &outputs(&place.path(&out)));
}

/// Everything of a run that is done, but for the last lines of its log, and with these files in the folder of `ordered`.
fn as_killed(place: &Place, lines_less: usize, half_a_line: bool, files: &[&str]) {
    let log = place.read("run/commits.jsonl");
    let lines: Vec<&str> = log.lines().collect();
    let kept = lines.len() - lines_less;
    let mut text = lines[..kept].join("\n") + "\n";
    if half_a_line {
        text.push_str(&lines[kept][..lines[kept].len() / 2]);
    }
    place.write("run/commits.jsonl", &text);
    for file in files {
        place.write(&format!("run/ordered/{file}"), "left behind");
    }
}

#[test]
fn at_each_instant_of_the_end_a_kill_leaves_what_the_next_run_puts_right() {
    let place = Place::new();
    place.write("small.yaml", SMALL);
    let (head, tail) =
        (&PIPELINE[..PIPELINE.find("  events:").expect("a step")], &PIPELINE[PIPELINE.find("  made:").expect("a step")..]);
    let tail = &tail[..tail.find("  cut:").expect("a step")];
    place.write("run.yaml", &format!("{head}{tail}  rows:\n    from: hot\n    write_parquet: {{}}\n"));
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    let wanted = outputs(&place.path("run"));
    let log = place.read("run/commits.jsonl");
    let last: Vec<&str> = log.lines().rev().take(2).collect();
    assert!(last[0] == "{\"done\":{}}" && last[1].starts_with("{\"assembled\":{\"step\":\"ordered\",\"basis\":\""), "{last:?}");
    let parts: Vec<String> = (1..=2).map(|n| format!("ordered.h5.part-0000{n}")).collect();

    // The log's line is there, the parts were about to be removed: nothing is done but that.
    let before = std::fs::metadata(place.path("run/ordered/ordered.h5")).and_then(|m| m.modified()).expect("a time");
    as_killed(&place, 1, false, &[&parts[1]]);
    let said = place.calostream(&["run", "run.yaml"]).code(0);
    assert!(!said.err.contains("putting") && !said.err.contains("done again"), "{}", said.err);
    assert_same("before the parts were removed", &wanted, &outputs(&place.path("run")));
    let after = std::fs::metadata(place.path("run/ordered/ordered.h5")).and_then(|m| m.modified()).expect("a time");
    assert_eq!(before, after, "the file was not touched");
    assert_eq!(place.read("run/commits.jsonl"), log);

    // The file has its name, the log's line is half there: what is in the folder does not count. Here the parts are gone, as
    // nothing but a person could have done it, and are made again.
    for half in [false, true] {
        as_killed(&place, 2, half, &["ordered.h5"]);
        let said = place.calostream(&["run", "run.yaml"]).code(0);
        assert!(said.err.contains("done again: what they had made is gone\n"), "{}", said.err);
        assert!(said.err.contains("ordered: putting 2 parts ("), "{}", said.err);
        assert_same("before the log's line", &wanted, &outputs(&place.path("run")));
    }

    // A part that is not what was written is not put into the file, where its length does not tell: when it is gone it is made again.
    as_killed(&place, 2, false, &[]);
    for part in &parts {
        let (_, of) = log.split_once(&format!("\"name\":\"{part}\"")).expect("a part");
        let bytes = of.split_once("\"bytes\":").and_then(|(_, bytes)| bytes.split_once(',')).expect("its length").0;
        std::fs::write(place.path("run/ordered").join(part), vec![b'x'; bytes.parse().expect("a number")]).expect("written");
    }
    let said = place.calostream(&["run", "run.yaml"]).code(1);
    let wanted_words = "calostream: step `ordered`: ordered.h5 is not put together; the parts stay in run, and the same command does it: \
                        run/ordered/ordered.h5.part-00001 is not what was written; remove it, and the same command makes it again\n";
    assert!(said.err.ends_with(wanted_words), "{}", said.err);
    parts.iter().for_each(|part| std::fs::remove_file(place.path("run/ordered").join(part)).expect("removed"));
    place.calostream(&["run", "-q", "run.yaml"]).code(0);
    assert_same("with the parts made again", &wanted, &outputs(&place.path("run")));
    let said = place.calostream(&["status", "run"]).code(0);
    let bytes = std::fs::metadata(place.path("run/ordered/ordered.h5")).expect("there").len();
    let all =
        bytes + outputs(&place.path("run")).iter().filter(|f| f.0.starts_with("rows/")).map(|f| f.1.len() as u64).sum::<u64>();
    let files = format!("  files   3 ({})\n", calostream_operators::words::bytes(all));
    assert!(said.out.contains(&files), "{files} in {}", said.out);
}

#[test]
fn with_added_files_it_is_that_of_a_fresh_run() {
    let place = prepared();
    place.calostream(&["run", "-q", "merged.yaml"]).code(0);
    let before = outputs(&place.path("run"));
    place.showers(16, 16, 2);
    let mut running = place.start(&["run", "-q", "merged.yaml", "-w", "1"]);
    until("the end of the first steps", || place.read("run/commits.jsonl").contains("\"lost\""));
    running.kill();
    running.wait(LONG);
    assert_eq!(outputs(&place.path("run"))["train/train.h5"], before["train/train.h5"], "it stays until there is another");
    place.calostream(&["run", "-q", "merged.yaml"]).code(0);
    python(&SAME_ROWS.replace("== 192", "== 256"), &[&place.path("run")]);
    // Added files come last, in a fresh run they are sorted among the others: the new order is the same.
    place.calostream(&["run", "-q", "merged.yaml", "--out", "fresh"]).code(0);
    let (now, fresh) = (outputs(&place.path("run")), outputs(&place.path("fresh")));
    assert_ne!(now["train/train.h5"], before["train/train.h5"]);
    for file in ["train/train.h5", "ordered/ordered.h5", "cut/cut.h5"] {
        assert!(now[file] == fresh[file], "{file}");
    }
}

#[test]
fn plan_says_what_is_made_of_the_parts() {
    let place = prepared();
    let said = place.calostream(&["plan", "merged.yaml"]).code(0);
    for line in [
        "    makes `train.h5` of all parts in the end; they are removed then, until then the disk holds both\n",
        "    makes `plain.h5` of all parts in the end, which stay beside it\n",
    ] {
        assert!(said.out.contains(line), "{}", said.out);
    }
}

#[test]
fn a_disk_that_is_full_stops_it_and_with_room_it_goes_on() {
    use std::process::Command;
    let place = Place::new();
    let pipeline = "pipeline: full\nout: small/run\nsteps:\n  made:\n    generate_showers: { events: 120, energy: [10, 60], events_per_file: 30 }\n  \
                    all:\n    from: made\n    write_hdf5: { schema: lcd-v1, merged: all.h5, index: index, chunk: 10 }\n";
    place.write("run.yaml", pipeline);
    place.calostream(&["run", "-q", "run.yaml", "--out", "roomy"]).code(0);
    let wanted = outputs(&place.path("roomy"));
    std::fs::create_dir(place.path("small")).expect("made");
    let mount =
        |args: &[&str]| Command::new("mount").args(args).arg(place.path("small")).output().is_ok_and(|o| o.status.success());
    // Room for the parts, and for half of what is made of them.
    let size = format!("size={}k", wanted["all/all.h5"].len() * 3 / 2 / 1024);
    if !mount(&["-t", "tmpfs", "-o", &size, "tmpfs"]) {
        println!("left out: a small file system can't be mounted here (not root)");
        return;
    }
    let full = place.calostream(&["run", "-q", "run.yaml"]);
    let left = names(&place, "small/run/all");
    let staged = place.path("small/run/.staging/all-assembled").exists();
    let grown = mount(&["-o", "remount,size=200m"]);
    let rest = place.calostream(&["run", "-q", "run.yaml"]);
    let found = rest.code.map(|_| outputs(&place.path("small/run")));
    let unmounted = Command::new("umount").arg(place.path("small")).status().is_ok_and(|s| s.success());
    assert!(unmounted && grown);
    let full = full.code(1);
    let begin = "calostream: step `all`: all.h5 is not put together; the parts stay in small/run, and the same command does it: can't write ";
    assert!(full.err.starts_with(begin) && full.err.contains("No space left on device"), "{}", full.err);
    assert_eq!((left.len(), staged), (16, false), "the parts are there, and nothing of the file: {left:?}");
    rest.code(0);
    assert_same("after a full disk", &wanted, &found.expect("ended"));
}

#[test]
fn a_signal_stops_it_and_it_goes_on() {
    let place = prepared();
    place.write("slow.yaml", &PIPELINE.replace("chunk: 7 }", "chunk: 7, gzip: 9 }"));
    let mut running = place.start(&["run", "-q", "slow.yaml", "-w", "1"]);
    let staging = place.path("run/.staging/plain-assembled/plain.h5");
    let begun = Instant::now();
    while !running.ended() && !staging.exists() && begun.elapsed() < LONG {
        std::thread::sleep(Duration::from_millis(1));
    }
    let process = running.process().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &process]).status().expect("kill").success());
    let said = running.wait(LONG);
    if said.code == Some(0) {
        println!("it was too quick for the signal");
    } else {
        let said = said.code(1);
        assert!(said.err.contains(": stopped by a signal"), "{}", said.err);
        assert!(!staging.exists());
    }
    place.calostream(&["run", "-q", "slow.yaml"]).code(0);
    python(SAME_ROWS, &[&place.path("run")]);
    assert!(Path::new(&place.path("run/train/train.h5")).exists());
}
