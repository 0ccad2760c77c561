//! Everything in `gorun::sync` from the outside, on goroutines, on plain threads and between them.
//!
//! Go's documentation of `sync` and `golang.org/x/sync` is the source; sentences are quoted where they are tested. A lost
//! wake-up hangs its test; `within` turns that into a failure.

mod barrier;
mod condvar;
mod mutex;
mod once;
mod pool;
mod rwlock;
mod semaphore;
mod single_flight;
mod sleep;
mod storm;
mod wait_group;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
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

/// As `until`, on a goroutine that shares its worker with what it waits for.
pub(crate) fn until_by_yielding(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < GENEROUS, "the condition never came true");
        gorun::yield_now();
    }
}

/// Runs `f` with a runtime of one worker: who is readied runs when the caller waits, or yields, and not before.
pub(crate) fn on_one_worker<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    within(|| gorun::runtime::Builder::new().workers(1).spare_workers(0).build().unwrap().run(f))
}

/// On one worker: all others run until they wait. More than one turn, as one may be asked to yield before that.
pub(crate) fn let_others_wait() {
    for _ in 0..20 {
        gorun::yield_now();
    }
}
