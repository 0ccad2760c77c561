//! What the system grants at the start, and refuses later: a seccomp filter that is set when the runtime has long been at
//! work. Each in a process of its own.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(unsafe_code, reason = "a filter of system calls")]

mod common;

use common::child::{is_child, passes, skip_here};
use common::stuck::{compute, flag};
use common::until;
use gorun::runtime::Builder;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const CHILD: &str = "GORUN_TEST_CHILD";
const MADV_GUARD_INSTALL: u32 = 102;

/// Runs `f` in a process of its own, which ends well.
fn alone(name: &str, f: impl FnOnce()) {
    if is_child() {
        return f();
    }
    passes(name, &[]);
}

/// A system call, which of its arguments has which value, if that matters, and the error.
type Refusal = (libc::c_long, Option<(u32, u32)>, i32);

/// From now on these calls fail for all threads.
fn refuse(calls: &[Refusal]) {
    // `linux/filter.h`: load a word, compare and jump, return.
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = Vec::new();
    for (call, argument, error) in calls {
        let steps = if argument.is_some() { 3 } else { 1 };
        program.push(step(LOAD, 0, 0, 0));
        program.push(step(EQUAL, 0, steps, *call as u32));
        if let Some((number, value)) = argument {
            program.push(step(LOAD, 0, 0, 16 + 8 * number));
            program.push(step(EQUAL, 0, 1, *value));
        }
        program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | *error as u32));
    }
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (set, all) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
        assert_eq!(libc::syscall(libc::SYS_seccomp, set, all, &raw const filter), 0);
    }
}

/// Hand-overs between workers, locks that change hands, wake-ups, a look at everything, and the end of the runtime.
fn all_goes_on(before: impl FnOnce()) {
    let runtime = Builder::new().workers(2).build().unwrap();
    let exchange = |n: usize| {
        let (tx, rx) = gorun::channel(1);
        let sum = Arc::new(AtomicUsize::new(0));
        let all: Vec<_> = (0..4)
            .map(|_| {
                let (tx, rx, sum) = (tx.clone(), rx.clone(), sum.clone());
                let sends = runtime.go(move || (1..=n).for_each(|i| tx.send(i).unwrap())).unwrap();
                let takes = runtime.go(move || {
                    for i in rx {
                        sum.fetch_add(i, Ordering::SeqCst);
                        // To and fro between the workers.
                        if i % 7 == 0 {
                            gorun::time::sleep(std::time::Duration::from_micros(50));
                        }
                    }
                });
                [sends, takes.unwrap()]
            })
            .collect();
        drop((tx, rx));
        all.into_iter().flatten().for_each(|g| g.join().unwrap());
        assert_eq!(sum.load(Ordering::SeqCst), 4 * n * (n + 1) / 2);
    };
    exchange(100);
    before();
    exchange(500);
    assert_eq!(runtime.metrics().workers, 2);
    // What a plain thread and a worker share: the titles of locks are taken away.
    let (tx, rx) = gorun::channel(0);
    let sends = runtime.go(move || (0..100).for_each(|i| tx.send(i).unwrap())).unwrap();
    assert_eq!(rx.iter().sum::<i32>(), 99 * 50);
    sends.join().unwrap();
}

#[test]
fn a_membarrier_that_is_refused_late_is_done_by_hand() {
    alone("a_membarrier_that_is_refused_late_is_done_by_hand", || {
        all_goes_on(|| refuse(&[(libc::SYS_membarrier, None, libc::EPERM)]));
    });
}

#[test]
fn without_either_it_ends_with_a_word_about_it() {
    const NAME: &str = "without_either_it_ends_with_a_word_about_it";
    if std::env::var_os(CHILD).is_some() {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: valid for the duration of the call.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
        let runtime = Builder::new().workers(2).build().unwrap();
        refuse(&[(libc::SYS_membarrier, None, libc::EPERM), (libc::SYS_sched_setaffinity, None, libc::EPERM)]);
        return drop(runtime);
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", NAME, "--nocapture", "--test-threads=1"]).env(CHILD, "1").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("gorun: fatal: membarrier(2) is refused now"), "{stderr}");
}

#[test]
fn guards_that_are_refused_late_are_made_otherwise() {
    alone("guards_that_are_refused_late_are_made_otherwise", || {
        // Many that live at once, more than there are mappings for.
        let limit: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
        let many = limit / 2 + 2000;
        if many > 100_000 {
            return skip_here("vm.max_map_count is too high to be reached");
        }
        let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
        // The worker is busy until all have been spawned: they have what was promised at the start.
        let (free, stays) = flag();
        let hog = runtime.go(move || compute(&stays)).unwrap();
        let (stay, stays) = gorun::channel::<()>(0);
        let begun = Arc::new(AtomicUsize::new(0));
        let all: Vec<_> = (0..many)
            .map(|_| {
                let (stays, begun) = (stays.clone(), begun.clone());
                runtime.go(move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let _ = stays.recv();
                })
            })
            .collect();
        refuse(&[(libc::SYS_madvise, Some((2, MADV_GUARD_INSTALL)), libc::EINVAL)]);
        free.store(true, Ordering::SeqCst);
        hog.join().unwrap();
        // As many as there is room for.
        until(|| begun.load(Ordering::SeqCst) > limit / 4);
        // From now on there is an error instead of a promise, where there is no room.
        until(|| runtime.go(|| ()).is_err());
        // Those that wait for a stack begin when others have ended.
        drop(stay);
        all.into_iter().for_each(|g| g.unwrap().join().unwrap());
        assert_eq!(begun.load(Ordering::SeqCst), many);
        runtime.go(|| ()).unwrap().join().unwrap();
    });
}
