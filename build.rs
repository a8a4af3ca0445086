//! Makes the config language's lexer and parser tables at build time.
fn main() {}
