//! Killed at any moment, a run goes on from its log and ends with the same bytes.
//!
//! There are ten kills of a pipeline with everything in it and 21 of mixes, times `CALOSTREAM_EFFORT`; the moments follow from a
//! fixed seed.

mod common;

use common::{EVERYTHING, MIX, Place, assert_same, outputs, two_processes, until};
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

/// Kills a pipeline again and again; each go has the sizes of runs and pieces that chance gives it, none for those that memory
/// allows.
fn killed_again_and_again(place: &Place, pipeline: &str, kills: u32, sizes: &[Option<&str>]) {
    let start = Instant::now();
    place.calostream(&["run", pipeline, "-w", "2", "--out", "whole"]).code(0);
    let whole = start.elapsed();
    let wanted = outputs(&place.path("whole"));
    let (mut seed, mut killed, mut afresh) = (2017, 0, 0);
    let mut round = 0;
    let begin = |round: u32, workers: &str, seed: &mut u64| {
        let out = format!("killed-{round}");
        let args = ["run", pipeline, "-q", "-w", workers, "--out", &out];
        match sizes[(random(seed) * sizes.len() as f64) as usize] {
            Some(sizes) => place.start_spilling(sizes, &args),
            None => place.start(&args),
        }
    };
    while killed < kills {
        // A run that is done is begun again elsewhere: every kill meets work.
        let mut running = begin(round, "2", &mut seed);
        std::thread::sleep(whole.mul_f64(random(&mut seed)));
        running.kill();
        let said = running.wait(LONG);
        if said.code.is_some() {
            said.code(0);
            let out = place.path(&format!("killed-{round}"));
            assert_same(&format!("after {killed} kills"), &wanted, &outputs(&out));
            std::fs::remove_dir_all(out).expect("removed");
            (round, afresh) = (round + 1, afresh + 1);
            assert!(afresh < 10 * kills, "the runs are too quick to be killed");
            continue;
        }
        killed += 1;
    }
    begin(round, "3", &mut seed).wait(LONG).code(0);
    assert_same("after the last kill", &wanted, &outputs(&place.path(&format!("killed-{round}"))));
}

fn effort() -> u32 {
    std::env::var("CALOSTREAM_EFFORT").ok().map_or(1, |n| n.parse().expect("CALOSTREAM_EFFORT is a number"))
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_bytes() {
    killed_again_and_again(&prepared(), "everything.yaml", 10 * effort(), &[None, Some("1000000,1")]);
}

#[test]
fn a_mix_that_is_killed_in_memory_or_in_either_of_two_passes_ends_with_the_same_bytes() {
    for (what, sizes) in [
        ("in memory", &[None][..]),
        ("in two passes", &[Some("100000,1000000000")]),
        ("as memory allows", &[None, Some("100000,1000000000"), Some("1000000,1")]),
    ] {
        println!("{what}");
        let place = Place::new();
        place.showers(48, 8, 1);
        place.write("mix.yaml", MIX);
        killed_again_and_again(&place, "mix.yaml", 7 * effort(), sizes);
    }
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
