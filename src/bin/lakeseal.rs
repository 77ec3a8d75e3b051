//! The `lakeseal` command.

fn main() {}
