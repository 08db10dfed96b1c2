//! The `railwatch` program.

fn main() {}
