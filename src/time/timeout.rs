//! [`timeout`]: a call that is given up when it takes too long.
//!
//! The call is a goroutine that borrows from its caller, so:
//!
//! * **B1.** The caller does not leave before the goroutine has ended, whatever happens to either: [`Call`]'s drop waits
//!   for it, shielded from aborts.

use super::in_time::in_time;
use crate::go::Builder;
use crate::join::{JoinError, JoinHandle};
use gorun_scheduler::{checkpoint, unwind_if_ending};
use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

/// The error of a call that did not end in time; or, where unwinding is not possible, of a call whose runtime has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elapsed {
    runtime_ended: bool,
}

impl Elapsed {
    /// Returns true if the end of its runtime ended the call, not the deadline. A caller of the same runtime is normally
    /// unwound instead, and sees this value only in a destructor, while it unwinds already, or in its exit path.
    ///
    /// ```
    /// use gorun::time::{Duration, sleep, timeout};
    /// let late = timeout(Duration::from_millis(1), || sleep(Duration::from_secs(3600))).unwrap_err();
    /// assert!(!late.runtime_ended());
    /// ```
    #[must_use]
    pub fn runtime_ended(&self) -> bool {
        self.runtime_ended
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.runtime_ended {
            "the runtime has ended before the deadline"
        } else {
            "deadline has elapsed"
        })
    }
}

impl Error for Elapsed {}

/// Calls `f` and gives what it gives, if that takes no longer than `duration`; else ends it, as
/// [`JoinHandle::abort`](crate::JoinHandle::abort) does.
///
/// As with tokio's `timeout`, nothing of `f` is left when this returns: `f` runs as a goroutine (of its own, with the
/// inheritable goroutine-locals of its caller), and when the time is up it unwinds where it waits, dropping what it
/// has. So it may borrow from its caller. The price: an `f` that does not wait anywhere, or is in a call that holds up
/// its thread, can't be ended before it does, and `timeout` is late by as much. Where that can't be had, start a
/// goroutine and select between its channel and [`after`](super::after), as in Go; it then goes on by itself.
///
/// To std, an unwinding is a panic. It poisons a `std::sync::Mutex` or `RwLock` whose guard it drops, and a `Once` or
/// `LazyLock` of std's that `f` was initialising: each later use of it panics. (A `OnceLock` of std's is empty again.) An
/// abort does not poison the locks and cells of [`sync`](crate::sync).
///
/// A result that is there when `f` has ended is given even if it is late. A panic in `f` goes on in the caller, and so does
/// [`goexit`](crate::goexit). What `f` did happens before the return, whichever it is. A cancellation point: if the caller
/// is aborted, so is `f`. When the runtime ends, both the caller and `f` are aborted, which does not count as a timeout.
///
/// # Errors
/// [`Elapsed`] when the time was up first. `f` may not even have begun.
///
/// # Panics
/// When `f` does, or no goroutine can be had for it.
///
/// ```
/// use gorun::time::{Duration, timeout};
/// let (tx, rx) = gorun::channel::<i32>(1);
/// assert!(timeout(Duration::from_millis(2), || rx.recv()).is_err());
/// tx.send(1).unwrap();
/// assert_eq!(timeout(Duration::from_secs(10), || rx.recv()), Ok(Ok(1)));
/// ```
#[track_caller]
pub fn timeout<F, T>(duration: Duration, f: F) -> Result<T, Elapsed>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    timeout_at(in_time(duration).into(), f)
}

/// As [`timeout`], until `deadline`.
///
/// # Errors
/// As [`timeout`].
///
/// # Panics
/// As [`timeout`].
///
/// ```
/// use gorun::time::{Instant, sleep, timeout_at};
/// let late = timeout_at(Instant::now(), || sleep(std::time::Duration::from_secs(3600)));
/// assert_eq!(late.unwrap_err().to_string(), "deadline has elapsed");
/// ```
#[track_caller]
pub fn timeout_at<F, T>(deadline: Instant, f: F) -> Result<T, Elapsed>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    checkpoint();
    // SAFETY: F and T are Send. B1: what they borrow outlives `call`, and with it the goroutine.
    let mut call = match unsafe { Builder::new().spawn(None, f) } {
        Ok(handle) => Call(Some(handle)),
        Err(error) => panic!("gorun::time::timeout: {error}"),
    };
    let in_time = call.wait_until(deadline);
    // Too late, or we are being aborted: then `f` is too, and unwinds before we do.
    if !in_time {
        call.abort();
    }
    let result = call.end();
    unwind_if_ending();
    // Only the end of its runtime can abort `f`.
    let elapsed = Elapsed { runtime_ended: in_time };
    match result {
        None => Err(elapsed),
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) if error.is_goexit() => crate::goexit(),
        Some(Err(error)) => match error.into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            Err(_aborted) => Err(elapsed),
        },
    }
}

/// The goroutine of a call, waited for by its drop (B1).
struct Call<T>(Option<JoinHandle<T>>);

impl<T> Call<T> {
    fn wait_until(&mut self, deadline: Instant) -> bool {
        self.0.as_mut().is_none_or(|handle| handle.wait_until(Some(deadline)))
    }

    fn abort(&self) {
        self.0.iter().for_each(JoinHandle::abort);
    }

    /// Its result, once it has ended.
    fn end(&mut self) -> Option<Result<T, JoinError>> {
        self.0.take().map(|mut handle| handle.join_shielded())
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        self.abort();
        drop(self.end());
    }
}
