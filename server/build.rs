//! Compiles the storage format.
fn main() {}
