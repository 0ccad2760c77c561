//! A shared timer seen from what it sends to: it can be stopped, and asked whether it is due.
//!
//! Made by `owned`; kept by the channel of a timer, which does not know what the timer is.

use super::owned::Call;
use super::{NEVER, now};
use std::fmt;
use std::sync::Arc;

/// A timer whatever it does, by reference: for one who can only stop it.
pub struct Stopper(Arc<dyn Call>);

impl Stopper {
    pub(super) fn of(timer: Arc<dyn Call>) -> Stopper {
        Stopper(timer)
    }

    /// It won't ring unless it is set again. Takes the timers' lock; does not wait for an [`Alarm::call`].
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// let timer = Timer::new(home, Never);
    /// timer.set(later, |_, _| ());
    /// timer.stopper().stop();
    /// assert!(!timer.stop(|_, was_pending| was_pending));
    /// ```
    pub fn stop(&self) {
        self.0.clone().stop();
    }

    /// Lets it ring now, if its time has come and no worker has got to it: for one who asks what the timer has done, and
    /// does not wait. Wakes whom it rang for. `true` if what [`Alarm::call`] would do is left to the caller. Takes the
    /// timers' lock, unless the time has not come.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// struct Rings;
    /// impl Alarm for Rings {
    ///     fn ring(&self, _due: Moment, _now: Moment) -> Rung { Rung { wake: None, call: false, again: None } }
    /// }
    /// let timer = Timer::new(home, Rings);
    /// timer.set(later, |_, _| ());
    /// assert!(!timer.stopper().ring_if_due(), "there is time yet");
    /// assert!(timer.stop(|_, was_pending| was_pending));
    /// ```
    #[inline]
    #[must_use]
    pub fn ring_if_due(&self) -> bool {
        self.is_due() && self.0.clone().ring_now()
    }

    /// Whether its time has come and it has not rung yet. A snapshot.
    ///
    /// ```
    #[doc = include_str!("../examples.txt")]
    #[doc = include_str!("owned.txt")]
    /// let timer = Timer::new(home, Never);
    /// timer.set(later, |_, _| ());
    /// assert!(!timer.stopper().is_due());
    /// ```
    #[inline]
    #[must_use]
    pub fn is_due(&self) -> bool {
        let due = self.0.due();
        due != NEVER && due <= now()
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").finish_non_exhaustive()
    }
}
