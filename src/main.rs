//! The `bitting` binary.

fn main() {}
