//! The command line: one table is the source of the parser and of every usage text; the manual
//! and the completions are held against it by tests/tidy.rs.

mod help;
mod parse;
mod table;

pub use self::{
    help::synopsis,
    parse::{SUCCEED, TAKE_OVER, parse},
    table::*,
};

/// What whoever is given another's verb says: a mistake of this program's.
pub const ELSEWHERE: &str = "a bug: this command is carried out elsewhere";

#[cfg(test)]
mod tests;
