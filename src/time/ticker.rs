//! [`Ticker`]: the time, again and again. What happens at each tick is in `alarm`.

use super::alarm::{ChannelTimer, home};
use super::in_time::in_time;
use crate::chan::{Receiver, never};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// Sends the time to its channel every so often. Go's `time.Ticker`.
///
/// Ticks are due at the start plus a whole number of periods, however late an earlier one came: they do not drift. The
/// channel holds one tick; when its receiver is slow, ticks are dropped.
///
/// Without handle and receivers it stops.
///
/// ```
/// use gorun::time::{Duration, Ticker};
/// let ticker = Ticker::new(Duration::from_millis(1));
/// let ticks: Vec<_> = ticker.channel().iter().take(3).collect();
/// assert!(ticks.is_sorted());
/// ```
pub struct Ticker(ChannelTimer);

// No code of a user's runs while it is being changed.
impl UnwindSafe for Ticker {}
impl RefUnwindSafe for Ticker {}

impl Ticker {
    /// A ticker; the first tick comes after one `period`.
    ///
    /// # Panics
    /// When `period` is zero. When a plain thread calls and the default runtime has to start and can't: the text says
    /// why.
    ///
    /// ```
    /// use gorun::time::{Duration, Instant, Ticker};
    /// let start = Instant::now();
    /// let heartbeat = Ticker::new(Duration::from_millis(1));
    /// assert!(heartbeat.channel().recv().unwrap() >= start + Duration::from_millis(1));
    /// ```
    #[must_use]
    pub fn new(period: Duration) -> Ticker {
        let ticker = Ticker(ChannelTimer::new(home()));
        ticker.reset(period);
        ticker
    }

    /// Where the ticks are sent: the time of each. Clones of the receiver are other ends of the same channel: one
    /// of them gets each tick. For a [`select!`](crate::select!) beside other work, or to iterate over.
    ///
    /// ```
    /// use gorun::time::{Duration, Ticker};
    /// let ticker = Ticker::new(Duration::from_millis(1));
    /// let (stop, stopped) = gorun::channel::<()>(0);
    /// let beats = gorun::go(move || loop {
    ///     gorun::select! {
    ///         recv(ticker.channel()) -> _ => {}
    ///         recv(stopped) -> _ => return "stopped",
    ///     }
    /// });
    /// drop(stop);
    /// assert_eq!(beats.join().unwrap(), "stopped");
    /// ```
    #[must_use]
    pub fn channel(&self) -> &Receiver<Instant> {
        &self.0.receiver
    }

    /// Ends the ticks: none is received after this. The channel is not closed, so that who receives from it does not
    /// see a tick that is none.
    ///
    /// ```
    /// use gorun::time::{Duration, Ticker};
    /// let ticker = Ticker::new(Duration::from_millis(1));
    /// ticker.stop();
    /// assert!(ticker.channel().recv_timeout(Duration::from_millis(5)).is_err());
    /// ```
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Begins anew with another period: the next tick comes after one `period` from now. No tick of before is received
    /// after this. A stopped ticker ticks again.
    ///
    /// # Panics
    /// When `period` is zero.
    ///
    /// ```
    /// use gorun::time::{Duration, Ticker};
    /// let ticker = Ticker::new(Duration::from_secs(3600));
    /// ticker.reset(Duration::from_millis(1));
    /// ticker.channel().recv().unwrap();
    /// ```
    pub fn reset(&self, period: Duration) {
        assert!(!period.is_zero(), "gorun: a ticker's period must not be zero");
        self.0.set(in_time(period), Some(period));
    }
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticker").finish_non_exhaustive()
    }
}

/// The channel of a [`Ticker`], for those that are never stopped; dropping the receiver stops it all the same. With a
/// zero `period`, a channel that never gets anything.
///
/// # Panics
/// When a plain thread calls and the default runtime has to start and can't: the text says why.
///
/// ```
/// for _ in gorun::time::tick(std::time::Duration::from_millis(1)).iter().take(3) {}
/// ```
#[must_use]
pub fn tick(period: Duration) -> Receiver<Instant> {
    if period.is_zero() {
        return never();
    }
    Ticker::new(period).0.into_receiver()
}
