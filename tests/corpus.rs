//! Every input that is kept in fuzz/corpus, held against the fuzz targets' oracles without any
//! fuzzer: what once broke something stays mended.

#[path = "../fuzz/oracles/mod.rs"]
mod oracles;

use std::{
    fs,
    path::{Path, PathBuf},
};

use pizauth::{
    core::STATE_VERSION,
    server::fuzzing::{HookOrder, Key, stored, take_over, would_run},
};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

// Covers: members, hostile-dumps
#[test]
fn every_kept_input_passes_its_oracle() {
    for (target, oracle) in oracles::TARGETS {
        let directory = corpus().join(target);
        let inputs = names(&directory);
        assert!(inputs.len() >= 5, "{target} has {} seeds", inputs.len());
        for input in inputs {
            let path = directory.join(input);
            // A panic doesn't say which input it was; the captured output does.
            println!("{}", path.display());
            oracle(&fs::read(&path).unwrap());
        }
    }
}

#[test]
fn every_target_is_built_and_has_a_corpus() {
    let targets: Vec<&str> = oracles::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names(&corpus()), targets);
    let manifest = fs::read_to_string(corpus().with_file_name("Cargo.toml")).unwrap();
    let built: Vec<&str> = manifest
        .lines()
        .filter_map(|line| {
            line.strip_prefix("path = \"fuzz_targets/")?
                .strip_suffix(".rs\"")
        })
        .collect();
    assert_eq!(built, targets);
}

/// Inputs that are refused at the door test little: when a format changes, these have to.
#[test]
fn what_should_be_accepted_is() {
    let head = format!("pizauth handover {STATE_VERSION}\n");
    for seed in ["everything", "hooks", "twice"] {
        let body = fs::read(corpus().join("handover").join(seed)).unwrap();
        let outcome = take_over(&[head.as_bytes(), &body].concat());
        assert_eq!(outcome.err().map(|it| it.what), None, "{seed}");
    }
    let head = format!("pizauth state {STATE_VERSION}\n");
    for seed in names(&corpus().join("stored_state")) {
        let body = fs::read(corpus().join("stored_state").join(&seed)).unwrap();
        let outcome = stored(&[head.as_bytes(), &body].concat(), true);
        assert!(outcome.unwrap().is_some(), "{seed}");
    }
    let order = fs::read(corpus().join("hook_order/run")).unwrap();
    let HookOrder::Run(job) = serde_json::from_slice(&order[1..]).unwrap() else {
        panic!("another order");
    };
    assert!(would_run(&Key::of([7; 32]), &job));
}
