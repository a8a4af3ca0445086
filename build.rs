//! Makes the config language's lexer and parser tables at build time, and tells the linker how to
//! make a binary that starts fast.

use std::{env, error::Error, fs, path::PathBuf, process::Command};

use cfgrammar::yacc::YaccKind;
use lrlex::CTLexerBuilder;
use lrpar::RecoveryKind;

const GRAMMAR: &str = "src/config/grammar.y";
const LEXER: &str = "src/config/lexer.l";

fn main() -> Result<(), Box<dyn Error>> {
    link_for_a_fast_start();
    for input in ["build.rs", GRAMMAR, LEXER] {
        println!("cargo:rerun-if-changed={input}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join("config");
    fs::create_dir_all(&out)?;
    let parser = out.join("grammar.y.rs");
    // Paths are relative, so that the tables don't depend on where the source lies. There is no
    // error recovery: it costs up to half a second, and the first error is the one to mend.
    CTLexerBuilder::new()
        .lrpar_config(move |builder| {
            builder
                .yacckind(YaccKind::Grmtools)
                .recoverer(RecoveryKind::None)
                .grammar_path(GRAMMAR)
                .output_path(&parser)
        })
        .lexer_path(LEXER)
        .output_path(out.join("lexer.l.rs"))
        .build()?;
    Ok(())
}

/// A mail program runs `pizauth show` for every connection, and most of what that costs is the
/// dynamic linker's work. Two things spare it half: relocations in their packed form (DT_RELR), and
/// the unwinder linked in, so that no libgcc_s.so is looked for and bound. Only where the toolchain
/// is known to have both; elsewhere the usual linking works as well.
fn link_for_a_fast_start() {
    let target = |key| env::var(key).unwrap_or_default();
    let gnu = target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ENV") == "gnu";
    if !gnu || target("HOST") != target("TARGET") || target("PROFILE") != "release" {
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
