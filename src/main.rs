//! Parse, log to stderr, run, exit code; nothing else.
fn main() {}
