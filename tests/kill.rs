//! Killed at any moment, a run goes on from its log and ends with the same bytes.
//!
//! There are ten kills, times `CALOSTREAM_EFFORT`; the moments follow from a fixed seed.

mod common;

use common::{EVERYTHING, Place, assert_same, outputs, two_processes, until};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(180);

/// SplitMix64 (Steele, Lea and Flood 2014): the moments of the kills.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn prepared() -> Place {
    let place = Place::new();
    place.showers(48, 16, 1);
    place.model("tiny.onnx", ["ECAL", "HCAL"]);
    place.write("everything.yaml", EVERYTHING);
    place
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_bytes() {
    let place = prepared();
    let start = Instant::now();
    place.calostream(&["run", "everything.yaml", "-w", "2", "--out", "whole"]).code(0);
    let whole = start.elapsed();
    let wanted = outputs(&place.path("whole"));
    let effort: u32 = std::env::var("CALOSTREAM_EFFORT").ok().map_or(1, |n| n.parse().expect("CALOSTREAM_EFFORT is a number"));
    let kills = 10 * effort;
    let (mut seed, mut killed, mut afresh) = (2017, 0, 0);
    let mut round = 0;
    while killed < kills {
        // A run that is done is begun again elsewhere: every kill meets work.
        let out = format!("killed-{round}");
        let args = ["run", "everything.yaml", "-q", "-w", "2", "--out", &out];
        let mut running = place.start(&args);
        std::thread::sleep(whole.mul_f64(random(&mut seed)));
        running.kill();
        let said = running.wait(LONG);
        if said.code.is_some() {
            said.code(0);
            assert_same(&format!("after {killed} kills"), &wanted, &outputs(&place.path(&out)));
            std::fs::remove_dir_all(place.path(&out)).expect("removed");
            (round, afresh) = (round + 1, afresh + 1);
            assert!(afresh < 10 * kills, "the runs are too quick to be killed");
            continue;
        }
        killed += 1;
    }
    let out = format!("killed-{round}");
    place.calostream(&["run", "everything.yaml", "-w", "3", "--out", &out]).code(0);
    assert_same("after the last kill", &wanted, &outputs(&place.path(&out)));
}

#[test]
fn when_one_of_two_processes_is_killed_the_other_stops_and_both_may_go_on() {
    let place = prepared();
    place.calostream(&["run", "everything.yaml", "-w", "1", "--out", "whole"]).code(0);
    let wanted = outputs(&place.path("whole"));
    for victim in [0, 1] {
        let out = format!("killed-{victim}");
        let start = |place: &Place| {
            two_processes(place, "1").map(|args| {
                let mut all = vec!["run", "everything.yaml", "--out", &out];
                all.extend(args.iter().map(String::as_str));
                place.start(&all)
            })
        };
        let mut both = start(&place);
        // The first commits are in the log: both are at work.
        let log = place.path(&out).join("commits.jsonl");
        until("the first commit", || std::fs::read_to_string(&log).is_ok_and(|t| t.contains("{\"commit\"")));
        both[victim].kill();
        let [first, second] = both;
        let (dead, alive) = if victim == 0 { (first, second) } else { (second, first) };
        assert_eq!(dead.wait(LONG).code, None, "process {victim} was still at work");
        let said = alive.wait(Duration::from_secs(20)).code(1);
        let wanted_words = format!(
            "calostream: the run has stopped; what is committed stays in {out}: another process has stopped or can't be reached; \
             its own message says why\n"
        );
        assert!(said.err.ends_with(&wanted_words), "{}", said.err);
        assert!(!said.err.contains("panicked"), "{}", said.err);
        for process in start(&place) {
            process.wait(LONG).code(0);
        }
        assert_same(&format!("process {victim} was killed"), &wanted, &outputs(&place.path(&out)));
    }
}
