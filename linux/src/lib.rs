//! What Lazarette asks of the Linux kernel. The only crate that touches mounts and namespaces, and the
//! only one that starts programs. Blocking, thread-safe, without an async runtime.
//!
//! # Map
//!
//! | module | what it is for | begin with |
//! |---|---|---|
//! | [`command`] | programs: run with a deadline, spawned as daemons, reaped by PID 1 | [`Command`](command::Command), [`reap_orphans`](command::reap_orphans) |
//! | [`process`] | processes by identity (pidfd), not by number | [`Process`](process::Process) |
//! | [`mountinfo`] | mount tables: parsed as hostile input, watched | [`MountTable`](mountinfo::MountTable), [`Watch`](mountinfo::Watch) |
//! | [`namespace`] | mount namespaces: made, pinned, entered by a fresh thread | [`MountNamespace`](namespace::MountNamespace) |
//! | [`mount`] | mounts as descriptors: checked where they were made, cloned | [`MountRoot`](mount::MountRoot), [`DetachedMount`](mount::DetachedMount), [`Expected`](mount::Expected) |
//! | [`view`] | the hand-off: attach, replace (heal), detach, below a read-only tmpfs | [`View`](view::View), [`TargetRoot`](view::TargetRoot) |
//! | [`beneath`] | paths below a directory that cannot be led astray | [`check_relative`](beneath::check_relative) |
//! | [`fd_passing`] | bytes and one descriptor over a Unix socket | [`send`](fd_passing::send), [`receive`](fd_passing::receive) |
//! | [`probe`] | what this machine can do, found by trying | [`Feature`](probe::Feature) |
//! | `loop_device` | files as block devices (feature `loop`) | `LoopDevice` |
//!
//! # The hand-off, end to end
//!
//! In the storage container, the plugin has mounted something; the plugin host checks and clones it:
//!
//! ```no_run
//! # use std::path::Path;
//! use lazarette_linux::mount::{Expected, MountRoot};
//! # fn main() -> Result<(), lazarette_linux::mount::MountError> {
//! let root = MountRoot::open(Path::new("/mounts/media"), &Expected::types(["nfs", "nfs4"]))?;
//! let mount = root.clone_tree()?; // or clone_subtree(Path::new("team/a"))
//! // fd_passing::send(&socket, reply, Some(mount.as_fd()))
//! # Ok(())
//! # }
//! ```
//!
//! core receives the descriptor and places it, see [`view`].
//!
//! # What holds here
//!
//! - `unsafe` is in one file, `syscall.rs`, and denied elsewhere.
//! - Every mount that users see goes through one function (`mount::constrain`) which makes it nosuid,
//!   nodev and private, before anybody can see it.
//! - No path system call at or below a volume on the way in, on the way out, or to look at it: a dead
//!   server cannot stop us. What may hang after all runs in a thread with a time limit
//!   ([`namespace::stuck_threads`] counts the left-over ones), or in a process that is killed
//!   ([`command::abandoned`]).
//! - Nothing runs between `fork` and `exec` but system calls; namespaces are entered by threads.
#![deny(unsafe_code)]
// What only the view uses is not worth a mark on each of its parts.
#![cfg_attr(not(feature = "view"), allow(dead_code, unused_imports))]

pub mod beneath;
pub mod command;
pub mod fd_passing;
#[cfg(feature = "loop")]
pub mod loop_device;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
#[cfg(feature = "view")]
pub mod probe;
pub mod process;
#[allow(unsafe_code)]
mod syscall;
#[cfg(feature = "view")]
pub mod view;
