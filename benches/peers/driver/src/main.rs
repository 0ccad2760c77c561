//! Runs every workload for every peer, interleaved, and draws what came out.

fn main() {}
