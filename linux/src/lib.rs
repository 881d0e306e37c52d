//! What Lazarette asks of the Linux kernel: mounts, namespaces, mount tables, loop devices, commands.
#![deny(unsafe_code)]

pub mod beneath;
pub mod command;
pub mod fd_passing;
#[cfg(feature = "loop")]
pub mod loop_device;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod process;
#[allow(unsafe_code)]
mod syscall;
pub mod view;
