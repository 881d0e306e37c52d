//! The hand-off on real file systems, in private mount namespaces. Needs root; without it every test
//! says so and passes nothing off as done.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod attach;
mod faults;
mod fixture;
mod kinds;
mod replace;
mod roots;
