//! Makes the config language's parser tables at build time, and tells the linker how to
//! make a binary that starts fast.

use std::{collections::HashMap, env, error::Error, fs, path::PathBuf, process::Command};

use cfgrammar::yacc::YaccKind;
use lrlex::DefaultLexerTypes;
use lrpar::{CTParserBuilder, RecoveryKind};

const GRAMMAR: &str = "src/config/grammar.y";

fn main() -> Result<(), Box<dyn Error>> {
    link_for_a_fast_start();
    for input in ["build.rs", GRAMMAR] {
        println!("cargo:rerun-if-changed={input}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join("config");
    fs::create_dir_all(&out)?;
    // Paths are relative, so that the tables don't depend on where the source lies. There is no
    // error recovery: it costs up to half a second, and the first error is the one to mend.
    let parser = CTParserBuilder::<DefaultLexerTypes<u32>>::new()
        .yacckind(YaccKind::Grmtools)
        .recoverer(RecoveryKind::None)
        .grammar_path(GRAMMAR)
        .output_path(out.join("grammar.y.rs"))
        .build()?;
    fs::write(out.join("tokens.rs"), tokens(parser.token_map()))?;
    Ok(())
}

/// The grammar's tokens as Rust, for src/config/lexer.rs: every name with its number, and a
/// constant for each name that is a word.
fn tokens(map: &HashMap<String, u32>) -> String {
    let mut names: Vec<(&String, &u32)> = map.iter().collect();
    names.sort();
    let mut rows = String::new();
    let mut constants = String::new();
    for (name, id) in &names {
        rows.push_str(&format!("({id}, {name:?}), "));
        if name.bytes().all(|byte| byte.is_ascii_uppercase()) {
            constants.push_str(&format!("pub const {name}: u32 = {id};\n"));
        }
    }
    let count = names.len();
    format!("pub const NAMES: [(u32, &str); {count}] = [{rows}];\n{constants}")
}

/// A mail program runs `pizauth show` for every connection, and most of what that costs is the
/// dynamic linker's work. Two things spare it: relocations in their packed form (DT_RELR), and the
/// unwinder linked in, so that no libgcc_s.so is looked for and bound. Only where the toolchain is
/// known to have them; elsewhere, and with a linker of the user's choice, usual linking works as well.
fn link_for_a_fast_start() {
    let target = |key| env::var(key).unwrap_or_default();
    let gnu = target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ENV") == "gnu";
    let own = target("CARGO_ENCODED_RUSTFLAGS").contains("-fuse-ld");
    if !gnu || own || target("HOST") != target("TARGET") || target("PROFILE") != "release" {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    let asked = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output();
    let answer = asked.map(|output| output.stdout).unwrap_or_default();
    let library = PathBuf::from(String::from_utf8_lossy(&answer).trim());
    // A compiler that doesn't have it answers with the bare name.
    if let Some(directory) = library.parent().filter(|_| library.is_absolute()) {
        println!("cargo:rustc-link-search=native={}", directory.display());
        println!("cargo:rustc-link-lib=static:+whole-archive,-bundle=gcc_eh");
    }
}
