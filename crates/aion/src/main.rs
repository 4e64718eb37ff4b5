//! aion.

fn main() {}
