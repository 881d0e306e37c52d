//! Suites that prove Lazarette on a host and in a virtual machine, and the lab they run in.
//!
//! The library is the harness: [`lab`] says which built images a machine is made of, [`vm`] boots,
//! restores and drives machines, [`protocol`] is what the harness and the agent in the machine say
//! to each other.

pub mod host;
pub mod lab;
pub mod mirror;
pub mod protocol;
pub mod vm;
