//! What the tests share: watchdogs, runtimes of one worker, small instruments.

#![allow(unsafe_code, reason = "system calls")]
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod child;
pub(crate) mod foreign;
pub(crate) mod forked;
pub(crate) mod stuck;

use gorun::runtime::Builder;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine, short enough to tell a hang.
pub(crate) const GENEROUS: Duration = Duration::from_secs(60);

/// Runs `f` on a thread of its own and fails when it has not ended in a generous time.
pub(crate) fn within<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, tells) = mpsc::channel();
    let body = thread::spawn(move || {
        let _ = told.send(f());
    });
    match tells.recv_timeout(GENEROUS) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing moves any more"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match body.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it sends before it ends"),
        },
    }
}

/// Waits, without sleeping, until `condition` holds.
pub(crate) fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < GENEROUS, "the condition never came true");
        thread::yield_now();
    }
}

/// A value that counts how often it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(pub(crate) Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn counter() -> (Arc<AtomicUsize>, impl Fn() -> usize) {
    let count = Arc::new(AtomicUsize::new(0));
    (count.clone(), move || count.load(Ordering::SeqCst))
}

/// A small random number generator; the seed is in the text of what fails.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Settings of a runtime whose only worker runs nothing else until its goroutine waits: on a slow machine the monitor may
/// take it for stuck, so there is nobody to take over.
pub(crate) fn one_worker() -> Builder {
    Builder::new().workers(1).spare_workers(0)
}

/// Runs `f` as the main goroutine of a runtime with one worker: what is spawned runs when `f` waits or yields, in order.
pub(crate) fn on_one_worker<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    one_worker().build().unwrap().run(f)
}

/// Lets all others run until they wait; on one worker.
pub(crate) fn others_wait() {
    (0..20).for_each(|_| gorun::yield_now());
}

/// The thread we run on, to the kernel. (What std calls a thread may be the goroutine itself.)
pub(crate) fn kernel_thread() -> libc::pid_t {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }
}

/// Its name, to the kernel.
pub(crate) fn kernel_thread_name() -> String {
    std::fs::read_to_string("/proc/thread-self/comm").unwrap()
}
