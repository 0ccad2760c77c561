//! A shared timer as its channel sees it: it can be stopped, and asked whether it is due.
//!
//! Made by `timer`; kept by the channel of a timer, which does not know the timer's type.

use crate::timer::clock::{NEVER, now};
use crate::timer::timers::Call;
use std::fmt;
use std::sync::Arc;

/// A type-erased reference to a timer.
pub struct Stopper(Arc<dyn Call>);

impl Stopper {
    pub(super) fn of(timer: Arc<dyn Call>) -> Stopper {
        Stopper(timer)
    }

    /// Stops the timer: it does not fire unless it is set again. Takes the timers' lock; does not wait for an
    /// [`Alarm::call`](crate::Alarm::call).
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

    /// Fires the timer now if it is due and no worker has fired it yet, so that an operation that does not wait sees its
    /// effect. Wakes the goroutines that it fires for. Returns true if the caller must do what [`Alarm::call`](crate::Alarm::call) would do.
    /// Takes the timers' lock, unless the timer is not due.
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

    /// Returns true if the timer is due and has not fired yet. A snapshot.
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
