//! The examples that train, with the real libraries: `make test-training`. They need a Python that has PyTorch and JAX, which
//! `CALOSTREAM_TRAINING` names; without it they are passed over, and say so.

mod common;

use common::{Place, program, repository};
use std::process::Command;

/// What an example says of a training on showers: events, batches, and the loss at first and in the end.
fn train(example: &str) -> Option<(u64, u64, f64, f64)> {
    let Some(python) = std::env::var_os("CALOSTREAM_TRAINING") else {
        println!("passed over: CALOSTREAM_TRAINING names no Python with PyTorch and JAX (`make test-training`)");
        return None;
    };
    let place = Place::new();
    place.showers(240, 60, 1);
    let mut command = Command::new(python);
    command.current_dir(repository()).env("CALOSTREAM", program()).arg(format!("examples/{example}"));
    command.args(["pipelines/feed-lcd.yaml", "--batch", "32", "--epochs", "6"]);
    for (name, path) in [("data", place.path("data")), ("out", place.path("run"))] {
        command.arg("--set").arg(format!("{name}={}", path.display()));
    }
    let output = command.output().expect("Python starts");
    let [said, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{said}{err}");
    let words: Vec<&str> = said.split_whitespace().collect();
    let number = |word: usize| words[word].parse::<f64>().unwrap_or_else(|_| panic!("{said}"));
    Some((number(0) as u64, number(3) as u64, number(6), number(9)))
}

#[test]
fn pytorch_trains_on_the_batches_of_two_workers() {
    let Some((events, batches, first, last)) = train("feed_torch.py") else { return };
    // Each of two ranks has 480 events an epoch: 15 batches of 32.
    assert_eq!((events, batches), (5760, 180));
    assert!(last < 0.9 * first, "{first} to {last}");
}

#[test]
fn jax_trains_on_the_batches() {
    let Some((events, batches, first, last)) = train("feed_jax.py") else { return };
    assert_eq!((events, batches), (5760, 180));
    assert!(last < 0.9 * first, "{first} to {last}");
}
