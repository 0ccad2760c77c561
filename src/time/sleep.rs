//! Sleeping: a wait that only its deadline ends.
//!
//! Called by users.

use gorun_scheduler::{Blocker, Token, WaitReason, checkpoint, unwind_aborted};
use std::time::{Duration, Instant};

/// Lets the calling goroutine wait for at least `duration`, on the monotonic clock; its worker runs others. A plain
/// thread sleeps. A cancellation point: an abort ends the sleep. Zero yields.
///
/// ```
/// let start = std::time::Instant::now();
/// gorun::go(|| gorun::time::sleep(std::time::Duration::from_millis(2))).join().unwrap();
/// assert!(start.elapsed() >= std::time::Duration::from_millis(2));
/// ```
pub fn sleep(duration: Duration) {
    if duration.is_zero() {
        return gorun_scheduler::yield_now();
    }
    // Beyond what the clock can say: for ever.
    wait(Instant::now().checked_add(duration));
}

/// As [`sleep`], until `deadline` has passed. One that has passed already yields.
///
/// ```
/// use std::time::{Duration, Instant};
/// let deadline = Instant::now() + Duration::from_millis(2);
/// gorun::go(move || gorun::time::sleep_until(deadline)).join().unwrap();
/// assert!(Instant::now() >= deadline);
/// ```
pub fn sleep_until(deadline: Instant) {
    if deadline <= Instant::now() {
        return gorun_scheduler::yield_now();
    }
    wait(Some(deadline));
}

fn wait(deadline: Option<Instant>) {
    checkpoint();
    let blocker = Blocker::current();
    blocker.arm();
    if blocker.park(WaitReason::Sleep, deadline) == Token::ABORT {
        unwind_aborted();
    }
}
