//! The one binary: reads the command line, hands over to a command, turns its outcome into an exit code.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

fn main() {}
