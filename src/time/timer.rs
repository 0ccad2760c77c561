//! [`Timer`]: one event in the future, for a channel or a function; [`after`] and [`after_func`].
//!
//! What happens at the time, and the races with it, are in `alarm` and in the scheduler's `timers`.

use super::alarm::{ChannelTimer, FuncTimer, home};
use super::in_time::in_time;
use super::lazy::LazyTimer;
use crate::chan::{Receiver, never};
use gorun_scheduler::Moment;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A single event: when it is time, its channel gets the time, or its function is called. Go's `time.Timer`, with the
/// semantics of Go 1.23.
///
/// A timer whose handle and receivers are all gone is stopped and costs nothing any more; one with a function goes on
/// without its handle.
///
/// ```
/// use gorun::time::{Duration, Timer};
/// let timer = Timer::new(Duration::from_secs(3600));
/// assert!(timer.reset(Duration::from_millis(2)));
/// let at = timer.channel().recv().unwrap();
/// assert!(at <= std::time::Instant::now());
/// assert!(!timer.stop(), "it has fired");
/// ```
pub struct Timer(Kind);

enum Kind {
    Channel(LazyTimer),
    /// With the channel that never gets anything, once somebody asks for it.
    Func(FuncTimer, OnceLock<Receiver<Instant>>),
}

// No code of a user's runs while it is being changed.
impl UnwindSafe for Timer {}
impl RefUnwindSafe for Timer {}

impl Timer {
    /// A timer that sends the time to its channel when `duration` has passed.
    ///
    /// # Panics
    /// When a plain thread calls and the default runtime has to start and can't: the text says why.
    ///
    /// ```
    /// use gorun::time::{Duration, Timer};
    /// let (_work, done) = gorun::channel::<()>(0);
    /// let timer = Timer::new(Duration::from_millis(2));
    /// gorun::select! {
    ///     recv(done) -> _ => unreachable!("it is never done"),
    ///     recv(timer.channel()) -> at => assert!(at.is_ok()),
    /// }
    /// ```
    #[must_use]
    pub fn new(duration: Duration) -> Timer {
        Timer(Kind::Channel(LazyTimer::new(in_time(duration))))
    }

    /// A timer that sends the time to its channel at `deadline`; at once, if that has passed.
    ///
    /// # Panics
    /// When a plain thread calls and the default runtime has to start and can't: the text says why.
    ///
    /// ```
    /// use gorun::time::{Instant, Timer};
    /// assert!(Timer::at(Instant::now()).channel().recv().is_ok());
    /// ```
    #[must_use]
    pub fn at(deadline: Instant) -> Timer {
        Timer(Kind::Channel(LazyTimer::new(deadline.into())))
    }

    /// Where the time is sent. Clones of the receiver are other ends of the same channel: one of them gets it.
    ///
    /// A timer made by [`after_func`] has a channel that never gets anything, as Go's is nil. The channel is closed
    /// only when the timer's runtime ends while it is pending.
    ///
    /// The channel has a hidden buffer for one value, which [`stop`](Timer::stop) and [`reset`](Timer::reset) empty:
    /// [`len`](Receiver::len) and [`capacity`](Receiver::capacity) are 0, as in Go since 1.23. Once the time has passed, a
    /// receive does not wait, even if no worker has fired the timer yet.
    ///
    /// ```
    /// use gorun::time::{Duration, Instant, Timer};
    /// let start = Instant::now();
    /// let timer = Timer::new(Duration::from_millis(2));
    /// assert!(timer.channel().recv().unwrap() >= start + Duration::from_millis(2));
    /// assert!(timer.channel().try_recv().is_err(), "it fires once");
    /// ```
    #[must_use]
    pub fn channel(&self) -> &Receiver<Instant> {
        match &self.0 {
            Kind::Channel(timer) => timer.channel(),
            Kind::Func(_, channel) => channel.get_or_init(never),
        }
    }

    /// Keeps the timer from firing. `true` if it does; `false` if the timer has fired or was stopped.
    ///
    /// With a channel: after `stop` nothing is received until the next [`reset`](Timer::reset); a value that was sent
    /// and not received is taken back, and counts as not fired. The channel is not closed.
    ///
    /// With a function: `false` means that the function was started in its goroutine, or the timer was stopped before.
    /// `stop` does not wait for the function.
    ///
    /// ```
    /// use gorun::time::{Duration, Timer};
    /// let timer = Timer::new(Duration::ZERO);
    /// gorun::time::sleep(Duration::from_millis(5));
    /// assert!(timer.stop(), "nobody has received it");
    /// assert!(timer.channel().try_recv().is_err());
    /// assert!(!timer.stop());
    /// ```
    pub fn stop(&self) -> bool {
        match &self.0 {
            Kind::Channel(timer) => timer.stop(),
            Kind::Func(timer, _) => timer.stop(),
        }
    }

    /// Lets the timer fire when `duration` has passed from now, whether it was pending, had fired or was stopped. `true`
    /// if it was pending.
    ///
    /// With a channel: no value of before the `reset` is received after it; one that was sent and not received is
    /// taken back, and then the timer counts as pending.
    ///
    /// With a function: it will be called, again if it has been. `reset` does not wait for an earlier call, so two may
    /// run at once.
    ///
    /// ```
    /// use gorun::time::{Duration, Timer};
    /// let timer = Timer::new(Duration::from_secs(3600));
    /// assert!(timer.reset(Duration::ZERO));
    /// timer.channel().recv().unwrap();
    /// assert!(!timer.reset(Duration::from_secs(3600)));
    /// ```
    pub fn reset(&self, duration: Duration) -> bool {
        self.reset_to(in_time(duration))
    }

    /// As [`reset`](Timer::reset), for a point in time; one that has passed is now.
    ///
    /// ```
    /// use gorun::time::{Duration, Instant, Timer};
    /// let timer = Timer::new(Duration::from_secs(3600));
    /// assert!(timer.reset_at(Instant::now()), "it was pending");
    /// assert!(timer.channel().recv().is_ok());
    /// ```
    pub fn reset_at(&self, deadline: Instant) -> bool {
        self.reset_to(deadline.into())
    }

    fn reset_to(&self, deadline: Moment) -> bool {
        match &self.0 {
            Kind::Channel(timer) => timer.set(deadline),
            Kind::Func(timer, _) => timer.set(deadline),
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Channel(_) => "channel",
            Kind::Func(..) => "function",
        };
        f.debug_struct("Timer").field("kind", &kind).finish_non_exhaustive()
    }
}

/// A channel that gets the time, once, when `duration` has passed: [`Timer::new`] without the handle. Dropping the
/// receiver stops the timer.
///
/// # Panics
/// When a plain thread calls and the default runtime has to start and can't: the text says why.
///
/// ```
/// use gorun::time::{Duration, Instant, after};
/// let start = Instant::now();
/// let at = after(Duration::from_millis(2)).recv().unwrap();
/// assert!(at >= start + Duration::from_millis(2));
/// ```
#[must_use]
pub fn after(duration: Duration) -> Receiver<Instant> {
    let timer = ChannelTimer::new(home());
    timer.set(in_time(duration), None);
    timer.into_receiver()
}

/// Calls `f` in a goroutine of its own when `duration` has passed. The timer's [`stop`](Timer::stop) prevents that, its
/// [`reset`](Timer::reset) puts it off, or has `f` called once more; that is why `f` is an `Fn`. Dropping the timer
/// changes nothing.
///
/// The goroutine inherits no goroutine-locals. The call of `after_func` or `reset` happens before the call of `f`. A
/// panic in `f` ends its goroutine. When no goroutine can be had for want of memory the call is late, until one can.
///
/// # Panics
/// When a plain thread calls and the default runtime has to start and can't: the text says why.
///
/// ```
/// use gorun::time::{Duration, after_func};
/// let (tx, rx) = gorun::channel(1);
/// let never = after_func(Duration::from_secs(3600), || unreachable!());
/// after_func(Duration::from_millis(2), move || tx.send("done").unwrap());
/// assert_eq!(rx.recv(), Ok("done"));
/// assert!(never.stop());
/// ```
#[track_caller]
pub fn after_func<F>(duration: Duration, f: F) -> Timer
where
    F: Fn() + Send + Sync + 'static,
{
    let timer = FuncTimer::new(f);
    timer.set(in_time(duration));
    Timer(Kind::Func(timer, OnceLock::new()))
}
