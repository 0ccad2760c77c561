//! Time: sleeping, timers, tickers, timeouts, as Go's package `time`, on the monotonic clock.
//!
//! | Go | gorun |
//! |---|---|
//! | `time.Sleep(d)` | [`sleep`], [`sleep_until`] |
//! | `<-time.After(d)` | [`after`]`(d).recv()`, or as an arm of a select |
//! | `time.Tick(d)` | [`tick`] |
//! | `time.NewTimer(d)`, `t.C` | [`Timer::new`], [`Timer::channel`] |
//! | `time.AfterFunc(d, f)` | [`after_func`] |
//! | `t.Stop()`, `t.Reset(d)` | [`Timer::stop`], [`Timer::reset`] |
//! | `time.NewTicker(d)` | [`Ticker::new`] |
//! | `time.Now()`, `time.Since(t)` | [`Instant::now()`](Instant::now), [`Instant::elapsed`] |
//! | a select with `time.After` around a call | [`timeout`], which also ends the call |
//!
//! Everything works from goroutines and from plain threads. The clock is [`Instant`]'s: setting the wall clock changes
//! nothing, and on Linux it stands still while the machine is suspended. Nothing is early; how late it can be is up to
//! the kernel (some 15 us until a thread that sleeps runs; 50 us more on a plain thread) and to what else there is to run.
//!
//! # Which runtime
//! A timer belongs to the runtime of the goroutine that makes it, or to the default one if a plain thread does. When
//! that runtime ends the timer does not fire any more: its channel closes, its function is never called.
//!
//! # Cost
//! A pending timer is an entry in a queue of the worker that made it. Stopping it, or dropping the last receiver of its
//! channel, takes it out at once; a million pending ones are no trouble. A [`Timer`] is not even that before somebody
//! asks for its channel.
//!
//! `alarm` is what timers do when they fire, `lazy` those that can't be seen to yet; `timer`, `ticker` and `timeout` are
//! the public types.

#[allow(unsafe_code, reason = "hands closures to the scheduler with their type erased")]
mod alarm;
mod lazy;
mod ticker;
#[allow(unsafe_code, reason = "a goroutine with borrows, which ends before the call does")]
mod timeout;
mod timer;

pub use std::time::{Duration, Instant};
pub use ticker::{Ticker, tick};
pub use timeout::{Elapsed, timeout, timeout_at};
pub use timer::{Timer, after, after_func};

pub(crate) use alarm::{FuncTimer, WeakFuncTimer};

use gorun_scheduler::{Blocker, Moment, Token, WaitReason, checkpoint, unwind_aborted};

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

/// In `duration` from now; beyond what the clock can say, in hundreds of years.
fn in_time(duration: Duration) -> Moment {
    Moment::now().after(duration)
}
