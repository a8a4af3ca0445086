//! Every input that is kept in fuzz/corpus, held against the fuzz targets' oracles without any
//! fuzzer: what once broke something stays mended.

#[path = "../fuzz/oracles/mod.rs"]
mod oracles;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

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

/// The core's part of a seed for the target `handover`, out of the state whose layout is guarded.
fn core_for(seed: &str) -> Value {
    let golden = format!("src/core/tests/state-{STATE_VERSION}.json");
    let golden = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(golden)).unwrap();
    let mut core: Value = serde_json::from_str(&golden).unwrap();
    let accounts = core["accounts"].as_array_mut().unwrap();
    let of = |name: &str| {
        let mut accounts = accounts.iter();
        let found = accounts.find(|account| account["account"] == name);
        found.unwrap().clone()
    };
    let some = match seed {
        "everything" => return core,
        "no-channel" => {
            let mut over = accounts.iter_mut();
            let over = over.find(|account| account["account"] == "over");
            over.unwrap()["state"]["sign_in"]["Pending"]["browser"] = Value::Null;
            return core;
        }
        "code" | "failing" | "revoked" | "valid" => vec![of(seed)],
        "twice" => vec![of("valid"), of("valid")],
        "unknown-account" => {
            let mut gone = of("valid");
            gone["account"] = "gone".into();
            vec![gone]
        }
        "huge-numbers" => {
            let mut huge = of("valid");
            let state = &mut huge["state"];
            let failing = &mut state["grant"]["renewal"]["phase"]["Failing"];
            failing["failed"] = u64::MAX.into();
            failing["trouble"]["since"]["instant"] = u64::MAX.into();
            failing["trouble"]["since"]["wall"] = i64::MAX.into();
            state["grant"]["access"]["expires"] = u64::MAX.into();
            state["last_request"] = u64::MAX.into();
            state["pause"] = u64::MAX.into();
            core["attempts"] = u64::MAX.into();
            vec![huge]
        }
        _ => Vec::new(),
    };
    core["accounts"] = some.into();
    core["issuers"] = json!({ "entries": {} });
    core["pauses"] = json!({ "busy": {} });
    core["spent"] = json!([]);
    core
}

/// The seeds of `handover` have today's layout, so that what is refused is refused for what the seed
/// is about. PIZAUTH_WRITE_FORMAT=1 writes them anew.
#[test]
fn every_handover_seed_has_todays_layout() {
    const CANT: &str = "the running server's state can't be taken over: ";
    for (seed, why) in [
        ("bad-certificate", "the certificate makes no sense"),
        ("bad-config", "expected the account's name"),
        ("code", ""),
        ("empty", ""),
        ("everything", ""),
        ("failing", ""),
        ("hooks", ""),
        ("huge-numbers", ""),
        ("no-channel", ""),
        ("no-runner", "missing field `runners`"),
        ("older", CANT),
        ("other-listeners", "http_listen or https_listen was changed"),
        ("revoked", ""),
        ("twice", ""),
        ("unknown-account", ""),
        ("valid", ""),
    ] {
        let file = corpus().join("handover").join(seed);
        let text = fs::read_to_string(&file).unwrap();
        let body = match serde_json::from_str::<Value>(&text) {
            Ok(mut state) => {
                let core = core_for(seed);
                if state["core"] != core && std::env::var_os("PIZAUTH_WRITE_FORMAT").is_some() {
                    state["core"] = core.clone();
                    fs::write(&file, serde_json::to_string(&state).unwrap()).unwrap();
                }
                assert_eq!(state["core"], core, "{seed}");
                format!("pizauth handover {STATE_VERSION}\n{state}")
            }
            Err(_) => text,
        };
        let outcome = take_over(body.as_bytes()).map(drop);
        let what = outcome.err().map_or(String::new(), |it| it.what);
        let same = what.contains(why) && what.is_empty() == why.is_empty();
        assert!(same, "{seed}: {what}");
    }
    assert_eq!(names(&corpus().join("handover")).len(), 16);
}

/// Inputs that are refused at the door test little: when a format changes, these have to.
#[test]
fn what_should_be_accepted_is() {
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
