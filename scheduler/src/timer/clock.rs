//! The clock: points in time as numbers, which fit into one atomic word and are compared by one instruction.
//!
//! Used by `timers`, which counts in them, by the workers for their sleep, and by `gorun::time`.

use crate::base::process::once;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Stands for no time at all.
pub(crate) const NEVER: u64 = u64::MAX;
/// The last point in time, 584 years after the first. The numbers above are for who wants to say something else by them.
const LAST: u64 = u64::MAX - 0xff;

fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *once(&BASE, Instant::now)
}

/// Nanoseconds on the monotonic clock since the process first asked.
pub(crate) fn now() -> u64 {
    Moment::now().0
}

/// Lets the kernel wake the calling thread when it asked to be woken, and not up to 50 us later, for the sake of waking
/// several threads at once. Where there is no such thing, or it is forbidden, nothing changes.
pub(crate) fn wake_in_time() {
    #[cfg(target_os = "linux")]
    // SAFETY: sets a number of the thread's. 0 would mean the default.
    let _forbidden = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

/// A point in time on [`Instant`]'s clock, in nanoseconds; between the first call of the process that asked for one and
/// 584 years later. What is before or after is taken for the first or the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub(crate) u64);

impl Moment {
    /// The present.
    ///
    /// ```
    /// use gorun_scheduler::Moment;
    /// let before = Moment::now();
    /// assert!(before <= Moment::now());
    /// ```
    #[inline]
    #[must_use]
    pub fn now() -> Moment {
        Moment::from(Instant::now())
    }

    /// So much later.
    ///
    /// ```
    /// use gorun_scheduler::Moment;
    /// use std::time::{Duration, Instant};
    /// let now = Moment::now();
    /// assert_eq!(Instant::from(now.after(Duration::from_secs(2))) - Instant::from(now), Duration::from_secs(2));
    /// ```
    #[inline]
    #[must_use]
    pub fn after(self, duration: Duration) -> Moment {
        // One comparison for seconds that are too many, one for the sum: it is on the path of every timer.
        const MOST: u64 = LAST / 1_000_000_000 - 1;
        let seconds = duration.as_secs().min(MOST);
        Moment(self.0.saturating_add(seconds * 1_000_000_000 + u64::from(duration.subsec_nanos())).min(LAST))
    }

    /// As a number: the later the larger. Below `u64::MAX - 255`. For a word that several threads change.
    ///
    /// ```
    /// use gorun_scheduler::Moment;
    /// let now = Moment::now();
    /// assert!(now.after(std::time::Duration::from_nanos(5)).number() - now.number() == 5);
    /// ```
    #[inline]
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// What [`Moment::number`] gave.
    ///
    /// ```
    /// use gorun_scheduler::Moment;
    /// let now = Moment::now();
    /// assert_eq!(Moment::from_number(now.number()), now);
    /// ```
    #[inline]
    #[must_use]
    pub fn from_number(number: u64) -> Moment {
        Moment(number.min(LAST))
    }
}

impl From<Instant> for Moment {
    #[inline]
    fn from(at: Instant) -> Moment {
        Moment(0).after(at.saturating_duration_since(base()))
    }
}

impl From<Moment> for Instant {
    fn from(at: Moment) -> Instant {
        base() + Duration::from_nanos(at.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_there_and_back() {
        let at = base() + Duration::new(5, 7);
        assert_eq!(Moment::from(at), Moment(5_000_000_007));
        assert_eq!(Instant::from(Moment::from(at)), at);
        assert_eq!(Moment::from_number(Moment::from(at).number()), Moment::from(at));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_worker_asks_for_no_slack() {
        let slack = std::thread::spawn(|| {
            wake_in_time();
            // SAFETY: reads a number of the thread's.
            unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }
        });
        assert_eq!(slack.join().unwrap(), 1);
    }

    #[test]
    fn beyond_the_clock_is_the_last_moment() {
        let last = Moment(LAST);
        assert!(Moment::now().after(Duration::MAX) > Moment(LAST - 3_000_000_000));
        assert_eq!(last.after(Duration::from_nanos(1)), last);
        assert_eq!(Moment::from_number(u64::MAX), last);
        assert!(Moment::now().after(Duration::from_secs(1 << 40)) > Moment(LAST - 3_000_000_000));
        assert_eq!(last.after(Duration::MAX), last);
    }
}
