//! `blocking` where threads can't be had, or are few: no job waits behind one that waits for it, the pool grows again when it
//! may, and its threads are as the process was at its start.

#![allow(unsafe_code, reason = "limits of the process, by system calls")]

mod common;

use common::child::{become_counted, is_child, passes};
use common::{GENEROUS, until};
use gorun::runtime::{Builder, Runtime};
use gorun::{blocking, go, scope};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

/// Takes away the right to new threads, which root always has, and gives it back.
struct NoThreads {
    before: libc::rlimit,
    which: libc::c_uint,
    /// Those that could be had all the same: glibc keeps the stacks of a few that have ended.
    kept: Vec<(mpsc::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl NoThreads {
    /// No more processes and threads of this user, who is one whose threads are counted.
    fn by_number() -> NoThreads {
        NoThreads::limit(libc::RLIMIT_NPROC, |_| 1)
    }

    /// Room for more stacks than threads can be about to take, which are taken here otherwise; and for what else is mapped:
    /// std ends the process if a thread that has begun finds no room for its alternate signal stack.
    fn by_address_space() -> NoThreads {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: libc::rlim_t = statm.split(' ').next().unwrap().parse().unwrap();
        NoThreads::limit(libc::RLIMIT_AS, |_| pages * 4096 + 40 * STACK + STACK / 2)
    }

    fn limit(which: libc::__rlimit_resource_t, to: impl FnOnce(libc::rlim_t) -> libc::rlim_t) -> NoThreads {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: valid rlimits for the duration of the calls.
        unsafe {
            assert_eq!(libc::getrlimit(which, &raw mut before), 0);
            let now = libc::rlimit { rlim_cur: to(before.rlim_max), ..before };
            assert_eq!(libc::setrlimit(which, &raw const now), 0);
        }
        let mut kept = Vec::new();
        loop {
            let (end, ends) = mpsc::channel();
            match std::thread::Builder::new().spawn(move || ends.recv().unwrap_or_default()) {
                Ok(thread) => kept.push((end, thread)),
                Err(_) => return NoThreads { before, which, kept },
            }
            assert!(kept.len() < 1000, "the limit does not limit");
        }
    }
}

impl Drop for NoThreads {
    fn drop(&mut self) {
        // SAFETY: a valid rlimit for the duration of the call.
        assert_eq!(unsafe { libc::setrlimit(self.which, &raw const self.before) }, 0);
        for (end, thread) in self.kept.drain(..) {
            drop(end);
            thread.join().unwrap();
        }
    }
}

/// Bytes of a thread's stack where the address space is the limit.
const STACK: libc::rlim_t = 64 << 20;

/// How threads can be refused.
const BOTH: [&str; 2] = ["number", "address space"];

/// Runs `f` in a process of its own, for each of these ways to be refused a thread, with one worker and with two.
fn without_threads(ways: &[&str], name: &str, f: impl Fn(&Runtime, &dyn Fn() -> NoThreads)) {
    const HOW: &str = "GORUN_TEST_HOW";
    if is_child() {
        let how = std::env::var(HOW).unwrap();
        if how == "number" && !become_counted() {
            return;
        }
        let refuse: &dyn Fn() -> NoThreads =
            if how == "number" { &NoThreads::by_number } else { &NoThreads::by_address_space };
        let runtime = Builder::new().build().unwrap();
        // What is made at its first use is made; the default runtime is for the jobs that run on a thread.
        runtime.go(|| scope(|s| s.go(|| ()).join().unwrap())).unwrap().join().unwrap();
        go(|| ()).join().unwrap();
        // Stacks enough, as there may be no room for more.
        let (keep, held) = gorun::channel::<()>(0);
        let many: Vec<_> = (0..3000)
            .map(|_| {
                let held = held.clone();
                runtime.go(move || held.recv().is_err()).unwrap()
            })
            .collect();
        drop(keep);
        many.into_iter().for_each(|h| assert!(h.join().unwrap()));
        return f(&runtime, refuse);
    }
    for how in ways {
        for mode in ["isolated", "pinned"] {
            for workers in ["1", "2"] {
                // Large ones, so that the room for what is allocated is no room for a thread.
                let stack = ("RUST_MIN_STACK", &*STACK.to_string());
                // std may need more room than there is to print a backtrace, and hangs if an allocation fails meanwhile.
                let no_backtrace = ("RUST_BACKTRACE", "0");
                let mode = ("GORUN_THREAD_LOCALS", mode);
                passes(name, &[(HOW, how), mode, ("GORUN_MAXPROCS", workers), stack, no_backtrace]);
            }
        }
    }
}

#[test]
fn with_no_thread_at_all_the_caller_runs_its_own_job_and_may_wait_in_it() {
    without_threads(
        &BOTH,
        "with_no_thread_at_all_the_caller_runs_its_own_job_and_may_wait_in_it",
        |runtime, refuse| {
            let no_threads = refuse();
            // Goroutines whose jobs wait for each other's, and for goroutines that they spawn.
            let ended = Arc::new(AtomicUsize::new(0));
            let mutex = Arc::new(gorun::sync::Mutex::new(0));
            let (tx, rx) = gorun::channel(0);
            let waits = runtime
                .go({
                    let (ended, mutex) = (ended.clone(), mutex.clone());
                    move || {
                        blocking(|| {
                            for n in 0..50 {
                                assert_eq!(rx.recv(), Ok(n));
                                let before = ended.load(Ordering::Relaxed);
                                scope(|s| {
                                    s.go(|| {
                                        gorun::yield_now();
                                        ended.fetch_add(1, Ordering::Relaxed);
                                    });
                                });
                                assert_eq!(ended.load(Ordering::Relaxed), before + 1, "the scope has waited");
                                *mutex.lock() += 1;
                            }
                            5
                        })
                    }
                })
                .unwrap();
            let sends = runtime
                .go(move || {
                    for n in 0..50 {
                        let mut held = mutex.lock();
                        *held += 1;
                        // Over a wait.
                        gorun::yield_now();
                        drop(held);
                        blocking(|| tx.send(n)).unwrap();
                    }
                    *mutex.lock()
                })
                .unwrap();
            assert_eq!(waits.join().unwrap(), 5);
            assert!((99..=100).contains(&sends.join().unwrap()));
            // Its panic is its caller's here, too.
            let error = runtime.go(|| blocking(|| panic!("no"))).unwrap().join().unwrap_err();
            assert_eq!(error.into_panic().unwrap().downcast_ref(), Some(&"no"));
            drop(no_threads);
            let on_a_thread = || runtime.go(|| blocking(gorun::current).is_none()).unwrap().join().unwrap();
            assert!(on_a_thread(), "threads can be had again");
        },
    );
}

#[test]
fn a_job_never_waits_behind_one_that_waits_for_it() {
    without_threads(&BOTH, "a_job_never_waits_behind_one_that_waits_for_it", |runtime, refuse| {
        // One thread in the pool, which is held until the jobs after it have run.
        let (told, tells) = mpsc::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let first = runtime
            .go({
                let begun = begun.clone();
                move || {
                    blocking(move || {
                        begun.store(true, Ordering::Release);
                        (0..20).map(|_| tells.recv_timeout(GENEROUS).unwrap()).sum::<i32>()
                    })
                }
            })
            .unwrap();
        until(|| begun.load(Ordering::Acquire));
        let no_threads = refuse();
        let others: Vec<_> = (0..20)
            .map(|n| {
                let told = told.clone();
                runtime.go(move || blocking(|| told.send(n).unwrap())).unwrap()
            })
            .collect();
        assert_eq!(first.join().unwrap(), 190);
        others.into_iter().for_each(|h| h.join().unwrap());
        drop(no_threads);
    });
}

#[test]
fn a_limit_that_comes_and_goes_loses_no_job() {
    without_threads(&BOTH, "a_limit_that_comes_and_goes_loses_no_job", |runtime, refuse| {
        let stop = Arc::new(AtomicBool::new(false));
        let jobs: Vec<_> = (0..16)
            .map(|_| {
                let stop = stop.clone();
                let body = move || {
                    let mut n = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let (tx, rx) = gorun::channel(0);
                        let sends = go(move || blocking(|| tx.send(1)).unwrap());
                        n += blocking(|| rx.recv().unwrap());
                        sends.join().unwrap();
                    }
                    n
                };
                runtime.go(body).unwrap()
            })
            .collect();
        for _ in 0..20 {
            let no_threads = refuse();
            until_some(runtime);
            drop(no_threads);
            until_some(runtime);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(jobs.into_iter().map(|h| h.join().unwrap()).sum::<i32>() > 0);
    });
}

/// A few rounds of other work.
fn until_some(runtime: &Runtime) {
    (0..10).for_each(|_| runtime.go(|| blocking(|| ())).unwrap().join().unwrap());
}

/// What a thread has of its own in the kernel: affinity, niceness, blocked signals.
fn traits() -> (Vec<bool>, libc::c_int, bool) {
    // SAFETY: zeroed sets are valid, and live for the calls.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut cpus), 0);
        let mut mask: libc::sigset_t = std::mem::zeroed();
        assert_eq!(libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut mask), 0);
        let nice = libc::getpriority(libc::PRIO_PROCESS, libc::gettid().cast_unsigned());
        (
            (0..64).map(|cpu| libc::CPU_ISSET(cpu, &cpus)).collect(),
            nice,
            libc::sigismember(&raw const mask, libc::SIGUSR1) == 1,
        )
    }
}

/// Changes them all, for the calling thread.
fn spoil() {
    // SAFETY: as in `traits`.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu().cast_unsigned() as usize, &mut cpus);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cpus), 0);
        assert_eq!(libc::setpriority(libc::PRIO_PROCESS, libc::gettid().cast_unsigned(), 7), 0);
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut mask, libc::SIGUSR1);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, std::ptr::null_mut()), 0);
    }
}

#[test]
fn threads_are_as_the_process_was_and_not_as_a_locked_goroutines() {
    if is_child() {
        let usual = traits();
        let runtime = Builder::new().workers(1).build().unwrap();
        let locked = runtime.go(move || {
            let outer = gorun::lock_os_thread();
            spoil();
            assert_ne!(traits(), usual);
            // A thread for it, and one for each of those that it holds up.
            assert_eq!(blocking(traits), usual);
            // A worker that takes the place of this one, brought in from this thread; and the threads of another runtime.
            let other = Builder::new().workers(2).build().unwrap();
            for _ in 0..20 {
                assert_eq!(other.go(traits).unwrap().join().unwrap(), usual);
            }
            assert_eq!(go(traits).join().unwrap(), usual);
            drop(other);
            std::mem::forget(outer);
        });
        locked.unwrap().join().unwrap();
        return;
    }
    passes("threads_are_as_the_process_was_and_not_as_a_locked_goroutines", &[]);
}

#[test]
fn the_pool_has_as_many_threads_as_it_may() {
    if is_child() {
        let runtime = Builder::new().workers(2).build().unwrap();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let round = |jobs: usize, each: usize| {
            most.store(0, Ordering::SeqCst);
            let handles: Vec<_> = (0..jobs)
                .map(|_| {
                    let (now, most) = (now.clone(), most.clone());
                    runtime
                        .go(move || {
                            blocking(|| {
                                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                                // Until as many are there as may be, and for a moment in which one too many could come.
                                until(|| most.load(Ordering::SeqCst) >= each);
                                (0..100).for_each(|_| std::thread::yield_now());
                                now.fetch_sub(1, Ordering::SeqCst);
                            });
                        })
                        .unwrap()
                })
                .collect();
            handles.into_iter().for_each(|h| h.join().unwrap());
            most.load(Ordering::SeqCst)
        };
        assert_eq!(round(30, 3), 3);
        assert_eq!(gorun::set_blocking_threads(5), 3);
        assert_eq!(round(30, 5), 5);
        assert_eq!(gorun::set_blocking_threads(1), 5);
        assert_eq!(round(10, 1), 1);
        // A job that waits for one in the queue goes on when there may be more.
        let (tx, rx) = mpsc::channel();
        let first = runtime.go(move || blocking(move || rx.recv_timeout(GENEROUS).unwrap())).unwrap();
        let second = runtime.go(move || blocking(move || tx.send(4).unwrap())).unwrap();
        gorun::set_blocking_threads(2);
        assert_eq!(first.join().unwrap(), 4);
        second.join().unwrap();
        return;
    }
    passes("the_pool_has_as_many_threads_as_it_may", &[("GORUN_BLOCKING_THREADS", "3")]);
}

#[test]
fn a_default_limit_that_is_met_is_named_once() {
    if is_child() {
        let runtime = Builder::new().workers(2).build().unwrap();
        let all = Arc::new(std::sync::Barrier::new(512));
        let handles: Vec<_> = (0..1024)
            .map(|_| {
                let all = all.clone();
                runtime.go(move || blocking(|| all.wait().is_leader())).unwrap()
            })
            .collect();
        assert_eq!(handles.into_iter().filter(|_| true).map(|h| h.join().unwrap()).filter(|leads| *leads).count(), 2);
        return;
    }
    let told = passes("a_default_limit_that_is_met_is_named_once", &[]);
    assert_eq!(told.matches("GORUN_BLOCKING_THREADS").count(), 1, "{told}");
    let told = passes("a_default_limit_that_is_met_is_named_once", &[("GORUN_BLOCKING_THREADS", "512")]);
    assert_eq!(told.matches("GORUN_BLOCKING_THREADS").count(), 0, "{told}");
}
