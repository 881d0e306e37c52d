//! Storage contexts for Docker hosts: the contract, the configuration, the planner and the daemon.

fn main() {}
