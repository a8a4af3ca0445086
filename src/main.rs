//! The pizauth binary.
fn main() {}
