//! The command `pgmoor`: chooses between the daemon and the command line.

fn main() {}
