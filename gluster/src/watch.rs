//! The deaths of clients, noticed at once: a thread waits for the ends of all of them, and looks
//! every now and then whether one was stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use lazarette_plugin::linux::process::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client;
use crate::mounts::Mounts;

/// Between two looks at which clients there are, and whether they are stopped.
const LOOK: Duration = Duration::from_millis(300);
/// A client that is stopped for so long is ended: nobody gets an answer from it.
const STOPPED: Duration = Duration::from_secs(2);

/// The thread; it ends when this is dropped.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Starts watching the clients of `mounts`.
    pub(crate) fn start(mounts: &Arc<Mounts>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mounts) = (stop.clone(), Arc::downgrade(mounts));
        thread::Builder::new()
            .name("watch".into())
            .spawn(move || watch(&mounts, &stopped))?;
        Ok(Self { stop })
    }

    /// Ends the thread soon.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

fn watch(mounts: &Weak<Mounts>, stop: &AtomicBool) {
    let mut stopped: Vec<(i32, Instant)> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(mounts) = mounts.upgrade() else {
            return;
        };
        let live = mounts.live();
        wait(live.iter().map(|(_, _, client)| &**client));
        stopped.retain(|(pid, _)| live.iter().any(|(_, _, c)| c.pid() == *pid));
        for (key, _, client) in &live {
            let pid = client.pid();
            if !client.is_alive() {
                mounts.dead(key, client, &format!("the Gluster client {pid} has ended"));
            } else if !client::is_stopped(client) {
                stopped.retain(|(other, _)| *other != pid);
            } else if let Some((_, since)) = stopped.iter().find(|(other, _)| *other == pid) {
                if since.elapsed() >= STOPPED {
                    client::kill(client);
                    let why = format!("the Gluster client {pid} was stopped and had to be ended");
                    mounts.dead(key, client, &why);
                }
            } else {
                stopped.push((pid, Instant::now()));
            }
        }
    }
}

/// Waits until one of them ends, but not for long.
fn wait<'a>(clients: impl Iterator<Item = &'a Process>) {
    let mut fds: Vec<PollFd<'_>> = clients.map(|c| PollFd::new(c, PollFlags::IN)).collect();
    let limit = Timespec::try_from(LOOK).expect("a fraction of a second fits");
    if poll(&mut fds, Some(&limit)).is_err() {
        // Interrupted, or out of memory: neither is worth a busy loop.
        thread::sleep(LOOK);
    }
}
