//! PID 1's reaping beside the runner: in a process of its own, because it reaps *every* child.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lazarette_linux::command::{self, ChildOutput, Command, Exit};

#[test]
fn orphans_are_reaped_and_statuses_reach_their_owners() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reaper = scope.spawn(|| {
            let mut orphans = 0;
            while !done.load(Ordering::Relaxed) {
                orphans += command::reap_orphans();
                std::thread::yield_now();
            }
            orphans
        });
        let runners: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for code in 0..50 {
                        let script = format!("(true &) ; exit {code}");
                        let output = Command::new("/bin/sh").args(["-c", &script]).output();
                        assert_eq!(output.unwrap().exit, Exit::Code(code));
                    }
                    // A program that does not exist: the standard library reaps that child itself.
                    assert!(Command::new("/no/such/program").run().is_err());
                })
            })
            .collect();
        for runner in runners {
            runner.join().unwrap();
        }
        let child = Command::new("/bin/sh")
            .args(["-c", "exit 9"])
            .spawn(ChildOutput::Null);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(child.unwrap().wait(None).unwrap(), Some(Exit::Code(9)));
        let deadline = Instant::now() + Duration::from_secs(5);
        let children = format!(
            "/proc/{}/task/{}/children",
            std::process::id(),
            std::process::id()
        );
        while std::fs::read_to_string(&children).is_ok_and(|list| !list.trim().is_empty())
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(reaper.join().unwrap(), 200, "orphans");
    });
    assert_eq!(command::abandoned(), 0);
}
