//! Goroutines that are stuck on purpose: they compute, or block in the kernel, until they are told not to.

#![allow(unsafe_code, reason = "system calls")]

use super::until;
use gorun::runtime::Runtime;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// A flag twice: for who sets it, and for the goroutine that waits for it.
pub(crate) fn flag() -> (Arc<AtomicBool>, Arc<AtomicBool>) {
    let flag = Arc::new(AtomicBool::new(false));
    (flag.clone(), flag)
}

/// A number of goroutines that are stuck in `stuck` until the returned flag is set.
pub(crate) fn stick(
    runtime: &Runtime,
    n: usize,
    stuck: impl Fn(&AtomicBool) + Send + Sync + 'static,
) -> Arc<AtomicBool> {
    let (free, began) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let stuck = Arc::new(stuck);
    for _ in 0..n {
        let (free, began, stuck) = (free.clone(), began.clone(), stuck.clone());
        drop(runtime.go(move || {
            began.fetch_add(1, Ordering::SeqCst);
            stuck(&free);
        }));
    }
    until(|| began.load(Ordering::SeqCst) == n);
    free
}

pub(crate) fn compute(free: &AtomicBool) {
    while !free.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
}

#[expect(clippy::disallowed_methods, reason = "what the runtime must stand")]
pub(crate) fn sleep_in_the_kernel(free: &AtomicBool) {
    while !free.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn block_in_a_c_library(free: &AtomicBool) {
    while !free.load(Ordering::SeqCst) {
        // SAFETY: no descriptors are passed.
        unsafe { libc::poll(std::ptr::null_mut(), 0, 1) };
    }
}

/// A gate that is shut until the first half is dropped; whoever waits at the other blocks its thread.
pub(crate) fn gate() -> (Shut, Open) {
    let open = Open(Arc::new((Mutex::new(false), Condvar::new())));
    (Shut(open.clone()), open)
}

pub(crate) struct Shut(Open);

#[derive(Clone)]
pub(crate) struct Open(Arc<(Mutex<bool>, Condvar)>);

impl Open {
    #[expect(clippy::disallowed_methods, reason = "what the runtime must stand")]
    pub(crate) fn wait(&self) {
        let open = self.0.1.wait_while(self.0.0.lock().unwrap(), |open| !*open);
        drop(open.unwrap());
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        *self.0.0.0.lock().unwrap() = true;
        self.0.0.1.notify_all();
    }
}

/// Waits until the runtime has found `n` workers stuck.
pub(crate) fn found_stuck(runtime: &Runtime, n: usize) {
    until(|| runtime.metrics().stuck_workers == n);
}

/// Begun after and before, with timers, hand-overs, spawns: all that a processor has.
pub(crate) fn the_rest_goes_on(runtime: &Runtime) {
    let (tx, rx) = gorun::channel(0);
    let sleeper = runtime.go(move || {
        for n in 0..50 {
            gorun::time::sleep(Duration::from_millis(1));
            tx.send(n).unwrap();
            gorun::go(gorun::yield_now).join().unwrap();
        }
    });
    assert_eq!(rx.iter().sum::<i32>(), 49 * 25);
    sleeper.unwrap().join().unwrap();
}

/// Nobody is stuck any more, and the threads that were brought in have ended.
pub(crate) fn goes_back(runtime: &Runtime) {
    until(|| {
        let seen = runtime.metrics();
        seen.threads == seen.workers && seen.stuck_workers == 0 && seen.long_running.is_empty()
    });
}

/// Goroutines that yield and yield until `over`, so that their workers never run out of work. All have begun.
pub(crate) fn keep_busy(runtime: &Runtime, n: usize, over: &Arc<AtomicBool>) {
    let begun = Arc::new(AtomicUsize::new(0));
    for _ in 0..n {
        let (over, begun) = (over.clone(), begun.clone());
        drop(runtime.go(move || {
            begun.fetch_add(1, Ordering::SeqCst);
            while !over.load(Ordering::SeqCst) {
                gorun::yield_now();
            }
        }));
    }
    until(|| begun.load(Ordering::SeqCst) == n);
}
