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
mod in_time;
mod lazy;
mod sleep;
mod ticker;
#[allow(unsafe_code, reason = "a goroutine with borrows, which ends before the call does")]
mod timeout;
mod timer;

pub use sleep::{sleep, sleep_until};
pub use std::time::{Duration, Instant};
pub use ticker::{Ticker, tick};
pub use timeout::{Elapsed, timeout, timeout_at};
pub use timer::{Timer, after, after_func};

pub(crate) use alarm::{FuncTimer, WeakFuncTimer};
