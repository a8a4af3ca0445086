//! Makes the config language's lexer and parser tables at build time.

use std::{env, error::Error, fs, path::PathBuf};

use cfgrammar::yacc::YaccKind;
use lrlex::CTLexerBuilder;
use lrpar::RecoveryKind;

const GRAMMAR: &str = "src/config/grammar.y";
const LEXER: &str = "src/config/lexer.l";

fn main() -> Result<(), Box<dyn Error>> {
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
