//! Suites that prove Lazarette on a host and in a virtual machine.
