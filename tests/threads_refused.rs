//! When the system starts no thread more, or none may be: what can go on does, it is said once, and it is over when the
//! limit is.

#![allow(unsafe_code, reason = "limits of the process, by system calls")]

mod common;

use common::child::{become_counted, has_skipped, in_mode, is_child, passes, skip_isolated};
use common::stuck::{compute, flag, gate, the_rest_goes_on};
use common::{until, within};
use gorun::runtime::{Builder, Runtime, ThreadLocals};
use gorun::sync::ErrGroup;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Runs `f` in a process of its own, as a user whose threads are counted. What it says on standard error, if all was tried.
fn alone(name: &str, f: impl FnOnce()) -> Option<String> {
    if is_child() {
        if become_counted() {
            f();
        }
        return None;
    }
    let stderr = passes(name, &[]);
    (!has_skipped(&stderr)).then_some(stderr)
}

/// From now on the system starts no thread more for this user, until it is allowed again.
fn refuse_threads(refuse: bool) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: valid for the duration of the calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit);
        limit.rlim_cur = if refuse { 0 } else { limit.rlim_max };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0);
    }
    assert_eq!(std::thread::Builder::new().spawn(|| ()).is_err(), refuse);
}

fn lines(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.starts_with("gorun: ")).collect()
}

/// So many goroutines that are blocked until the gate opens, begun; with the number of those that have ended.
fn block(runtime: &Runtime, n: usize) -> (common::stuck::Shut, Arc<AtomicUsize>) {
    let (shut, open) = gate();
    let (began, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..n {
        let (open, began, ended) = (open.clone(), began.clone(), ended.clone());
        drop(runtime.go(move || {
            began.fetch_add(1, Ordering::SeqCst);
            open.wait();
            ended.fetch_add(1, Ordering::SeqCst);
        }));
    }
    until(|| began.load(Ordering::SeqCst) == n);
    (shut, ended)
}

/// Long enough for a hundred attempts.
fn for_a_while(holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert!(holds());
        std::thread::yield_now();
    }
}

#[test]
fn what_was_refused_is_had_when_the_limit_is_lifted() {
    const NAME: &str = "what_was_refused_is_had_when_the_limit_is_lifted";
    let said = alone(NAME, || {
        let runtime = Builder::new().workers(1).spare_workers(6).build().unwrap();
        refuse_threads(true);
        let (shut, _) = block(&runtime, 1);
        let waits = runtime.go(|| ()).unwrap();
        until(|| runtime.metrics().refused_workers);
        for_a_while(|| !waits.is_finished());
        refuse_threads(false);
        waits.join().unwrap();
        // As many can be had as ever, and no seat was lost meanwhile.
        let (more, ended) = block(&runtime, 4);
        the_rest_goes_on(&runtime);
        until(|| runtime.metrics().threads == 6);
        drop((shut, more));
        until(|| ended.load(Ordering::SeqCst) == 4);
    });
    if let Some(stderr) = said {
        let said = lines(&stderr);
        assert_eq!(said.len(), 1, "{stderr}");
        for part in ["os error 11", "ulimit -u", "1 workers are stuck", "tests/threads_refused.rs:"] {
            assert!(said[0].contains(part), "{part}: {stderr}");
        }
    }
}

#[test]
fn a_start_that_is_refused_at_any_step_leaves_no_thread_behind() {
    const NAME: &str = "a_start_that_is_refused_at_any_step_leaves_no_thread_behind";
    let said = alone(NAME, || {
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let allow = |n: u64| {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: valid for the duration of the calls.
            unsafe {
                libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit);
                limit.rlim_cur = n.min(limit.rlim_max);
                assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0);
            }
        };
        let build = || Builder::new().workers(3).build();
        let before = threads();
        // One thread more each time. Others of the same user only make more steps of it.
        let mut refused = 0;
        let runtime = loop {
            allow(before as u64 + refused);
            // The default runtime, which can't give an error; it is tried anew each time.
            if refused == 0 {
                let payload = std::panic::catch_unwind(|| gorun::go(|| ())).unwrap_err();
                assert!(payload.downcast_ref::<String>().unwrap().contains("ulimit -u"));
            }
            match build() {
                Ok(runtime) => break runtime,
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("ulimit -u"), "{text}");
                    // They are joined, and gone from the kernel's list in a moment. The starter's stays.
                    until(|| threads() <= before + 1);
                }
            }
            refused += 1;
            assert!(refused < 10_000, "the limit is lifted by so much");
        };
        assert!(refused >= 5, "the starter, three workers and the monitor: {refused}");
        assert_eq!(runtime.run(|| gorun::go(|| 4).join().unwrap()), 4);
        until(|| threads() == before + 1);
        allow(libc::RLIM_INFINITY);
        gorun::go(|| ()).join().unwrap();
    });
    if let Some(stderr) = said {
        // The panic's own, which the hook tells.
        let said = lines(&stderr);
        assert!(said.len() == 1 && said[0].contains("the default runtime could not start"), "{stderr}");
    }
}

#[test]
fn at_the_end_those_that_have_begun_go_on() {
    const NAME: &str = "at_the_end_those_that_have_begun_go_on";
    if gorun::runtime::isolation().is_err() {
        return skip_isolated();
    }
    let said = alone(NAME, || {
        let runtime = Builder::new().workers(1).thread_locals(ThreadLocals::Isolated).build().unwrap();
        let (tick, ticks) = gorun::channel(0);
        let ticker = runtime.go(move || {
            while tick.send(()).is_ok() {
                gorun::time::sleep(Duration::from_millis(1));
            }
        });
        ticks.recv().unwrap();
        let (shut, _ended) = block(&runtime, 50);
        refuse_threads(true);
        // These block, too, as far as there is a thread for them.
        let (other, open) = gate();
        let more: Vec<_> = (0..100)
            .map(|_| {
                let open = open.clone();
                runtime.go(move || open.wait()).unwrap()
            })
            .collect();
        until(|| runtime.metrics().refused_workers);
        for _ in 0..200 {
            ticks.recv().unwrap();
        }
        assert!(more.iter().all(|g| !g.is_finished()));
        // The last worker is theirs, until others come back.
        drop((shut, other));
        more.into_iter().for_each(|g| g.join().unwrap());
        drop(ticks);
        ticker.unwrap().join().unwrap();
    });
    if let Some(stderr) = said {
        let said = lines(&stderr);
        assert_eq!(said.len(), 1, "{stderr}");
        assert!(said[0].contains("(50)"), "{stderr}");
    }
}

#[test]
fn a_thread_that_is_to_be_locked_is_waited_for_while_the_others_go_on() {
    const NAME: &str = "a_thread_that_is_to_be_locked_is_waited_for_while_the_others_go_on";
    let said = alone(NAME, || {
        for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
            let Some(runtime) = in_mode(Builder::new().workers(1), mode) else { continue };
            refuse_threads(true);
            let (asks, asked) = mpsc::channel();
            let locks = runtime.go(move || {
                asks.send(()).unwrap();
                let _lock = gorun::lock_os_thread();
                // The others have a worker.
                gorun::go(|| ()).join().unwrap();
            });
            asked.recv().unwrap();
            the_rest_goes_on(&runtime);
            let locks = locks.unwrap();
            assert!(!locks.is_finished());
            // It can be aborted there.
            let aborted = runtime.go(|| drop(gorun::lock_os_thread())).unwrap();
            aborted.abort();
            assert!(aborted.join().is_err());
            refuse_threads(false);
            locks.join().unwrap();
            the_rest_goes_on(&runtime);
        }
    });
    if let Some(stderr) = said {
        assert!(lines(&stderr).iter().all(|line| line.contains("lock_os_thread") && line.contains("os error 11")));
        assert!(!lines(&stderr).is_empty(), "{stderr}");
    }
}

/// A member that can't be started is the spawner's panic, and not what the group waits for.
#[test]
fn a_member_of_an_err_group_that_is_refused_counts_as_ended() {
    alone("a_member_of_an_err_group_that_is_refused_counts_as_ended", || {
        let group = ErrGroup::<()>::new();
        group.set_limit(1);
        // The default runtime can't be made.
        refuse_threads(true);
        for _ in 0..2 {
            let refused = catch_unwind(AssertUnwindSafe(|| group.go(|| Err(()))));
            assert!(refused.is_err(), "it was started");
            assert_eq!(group.wait(), Ok(()));
        }
    });
}

#[test]
fn two_locked_threads_need_no_spare_workers() {
    within(|| {
        for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
            let Some(runtime) = in_mode(Builder::new().workers(2).spare_workers(0), mode) else { continue };
            let (free, stays) = flag();
            let (locked, locks) = mpsc::channel();
            let lockers: Vec<_> = (0..3)
                .map(|_| {
                    let (stays, locked) = (stays.clone(), locked.clone());
                    runtime.go(move || {
                        let _lock = gorun::lock_os_thread();
                        locked.send(()).unwrap();
                        compute(&stays);
                    })
                })
                .collect();
            (0..3).for_each(|_| locks.recv().unwrap());
            the_rest_goes_on(&runtime);
            free.store(true, Ordering::SeqCst);
            lockers.into_iter().for_each(|g| g.unwrap().join().unwrap());
            the_rest_goes_on(&runtime);
            until(|| runtime.metrics().threads == 2);
        }
    });
}

#[test]
fn the_cap_is_named_when_it_is_in_the_way_for_long() {
    const NAME: &str = "the_cap_is_named_when_it_is_in_the_way_for_long";
    let said = alone(NAME, || {
        let runtime = Builder::new().workers(1).spare_workers(1).build().unwrap();
        let (shut, _) = block(&runtime, 2);
        let waits = runtime.go(|| ()).unwrap();
        for_a_while(|| !waits.is_finished());
        drop(shut);
        waits.join().unwrap();
    });
    if let Some(stderr) = said {
        let said = lines(&stderr);
        assert_eq!(said.len(), 1, "{stderr}");
        assert!(said[0].contains("GORUN_SPARE_WORKERS") && said[0].contains("2 workers are stuck"), "{stderr}");
    }
}

#[test]
fn hundreds_of_stuck_ones_are_named_once() {
    const NAME: &str = "hundreds_of_stuck_ones_are_named_once";
    let said = alone(NAME, || {
        let runtime = Builder::new().workers(2).build().unwrap();
        let (shut, ended) = block(&runtime, 300);
        until(|| runtime.metrics().stuck_workers == 300);
        the_rest_goes_on(&runtime);
        drop(shut);
        until(|| ended.load(Ordering::SeqCst) == 300);
        let (shut, _) = block(&runtime, 300);
        until(|| runtime.metrics().stuck_workers == 300);
        drop(shut);
    });
    if let Some(stderr) = said {
        let said = lines(&stderr);
        assert_eq!(said.len(), 1, "{stderr}");
        assert!(said[0].contains("GORUN_SPARE_WORKERS") && said[0].contains("tests/threads_refused.rs:"), "{stderr}");
    }
}
