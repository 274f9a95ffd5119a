//! Where rows are put aside: on another file system, in a place that can't be written, on a disk that is full. And how large
//! a mix may be for its memory.

mod common;

use common::{MIX, Place, assert_same, corrupt, outputs, until};
use std::process::Command;
use std::time::Duration;

const ONE_PASS: &str = "100000,1";
const TWO_PASSES: &str = "100000,1000000000";

fn prepared() -> Place {
    let place = Place::new();
    place.showers(48, 8, 1);
    place.write("mix.yaml", MIX);
    place.calostream(&["run", "-q", "--out", "whole", "mix.yaml"]).code(0);
    place
}

#[test]
fn scratch_may_be_on_another_file_system() {
    let place = prepared();
    let scratch = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let folder = scratch.path().to_str().expect("a path");
    for sizes in [ONE_PASS, TWO_PASSES] {
        place.spilling(sizes, &["run", "-q", "--fresh", "--scratch", folder, "mix.yaml"]).code(0);
        assert!(place.read("run/commits.jsonl").contains(&format!("{folder}/calostream-")));
        assert_same(sizes, &outputs(&place.path("whole")), &outputs(&place.path("run")));
        assert_eq!(std::fs::read_dir(folder).expect("scratch").count(), 0, "what was put aside is removed");
    }
}

#[test]
fn a_scratch_that_cannot_be_written_is_named_before_anything_is_read() {
    let place = prepared();
    place.write("file", "");
    let path = place.path("file").canonicalize().expect("a path");
    for (scratch, shown, why) in [
        ("/proc/none", "/proc/none".to_owned(), "No such file or directory"),
        ("file", path.display().to_string(), "Not a directory"),
    ] {
        let said = place.calostream(&["run", "-q", "--scratch", scratch, "mix.yaml"]).code(1);
        let wanted = format!("rows can't be put aside where `--scratch` says: cannot make the folder {shown}/calostream-");
        assert!(said.err.contains(&wanted) && said.err.contains(why), "{}", said.err);
        assert!(!place.read("run/commits.jsonl").contains("commit"));
    }
    place.calostream(&["run", "-q", "mix.yaml"]).code(0);
    assert_same("afterwards", &outputs(&place.path("whole")), &outputs(&place.path("run")));
}

#[test]
fn a_unit_that_is_lost_on_the_way_leaves_the_same_hole_wherever_rows_are_put_aside() {
    let place = prepared();
    place.write("bears.yaml", &MIX.replace("\nout:", "\nquarantine_at_most: 0.5\nout:"));
    corrupt(&place.path("data/ChPiEscan_1_2.h5"));
    place.calostream(&["run", "-q", "-w", "1", "--out", "one", "bears.yaml"]).code(3);
    let wanted = outputs(&place.path("one"));
    assert!(place.read("one/quarantine.jsonl").contains("ChPiEscan_1_2.h5"));
    for (sizes, workers) in [(None, "2"), (Some(ONE_PASS), "2"), (Some(TWO_PASSES), "2"), (Some(TWO_PASSES), "1")] {
        let args = ["run", "-q", "--fresh", "-w", workers, "bears.yaml"];
        sizes.map_or_else(|| place.calostream(&args), |sizes| place.spilling(sizes, &args)).code(3);
        assert_same(&format!("{sizes:?}, {workers} workers"), &wanted, &outputs(&place.path("run")));
    }
    place.calostream(&["verify", "run"]).code(0);
}

/// A small file system in a place, and whether it is mounted.
struct Small<'a>(&'a Place, bool);

impl<'a> Small<'a> {
    /// One with so much room; none where this is not root.
    fn new(place: &'a Place, size: &str) -> Option<Self> {
        std::fs::create_dir_all(place.path("small")).expect("made");
        let mut small = Self(place, false);
        small.1 = small.mount(&["-t", "tmpfs", "-o", size, "tmpfs"]);
        if !small.1 {
            println!("left out: a small file system can't be mounted here (not root)");
        }
        small.1.then_some(small)
    }

    fn mount(&self, args: &[&str]) -> bool {
        let mut command = Command::new("mount");
        command.args(args).arg(self.0.path("small")).output().is_ok_and(|o| o.status.success())
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        if self.1 {
            let unmounted = Command::new("umount").arg(self.0.path("small")).status().is_ok_and(|s| s.success());
            assert!(unmounted || std::thread::panicking());
        }
    }
}

#[test]
fn a_full_scratch_is_waited_for_and_nothing_is_lost() {
    let place = prepared();
    let Some(small) = Small::new(&place, "size=200k") else { return };
    for sizes in [ONE_PASS, TWO_PASSES] {
        // Told to stop while it waits: it says what it waited for, and goes on later.
        let args = ["run", "-q", "-w", "1", "--scratch", "small", "mix.yaml"];
        let waiting = |place: &Place| {
            let running = place.start_spilling(sizes, &args);
            until("a full scratch", || {
                let full = rustix::fs::statvfs(place.path("small")).expect("asked");
                full.f_bavail * full.f_frsize < 100_000
            });
            std::thread::sleep(Duration::from_secs(1));
            running
        };
        let running = waiting(&place);
        let stopped = Command::new("kill").args(["-TERM", &running.process().to_string()]).status();
        assert!(stopped.is_ok_and(|s| s.success()));
        let said = running.wait(Duration::from_secs(30)).code(1);
        assert!(said.err.contains("No space left on device"), "{}", said.err);
        assert!(said.err.contains("rows can't be put aside in") && said.err.contains("trying again in"), "{}", said.err);
        // Room is made while it waits: it ends as if nothing had been.
        let running = waiting(&place);
        assert!(small.mount(&["-o", "remount,size=64m"]));
        running.wait(Duration::from_secs(120)).code(0);
        assert_same(sizes, &outputs(&place.path("whole")), &outputs(&place.path("run")));
        std::fs::remove_dir_all(place.path("run")).expect("removed");
        assert!(small.mount(&["-o", "remount,size=200k"]));
    }
}
