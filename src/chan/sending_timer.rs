//! The timer that sends to a channel, as the channel knows it.
//!
//! Kept by `core`; made and asked by `timed`.

use gorun_scheduler::{Stopper, process};
use std::sync::atomic::{AtomicU64, Ordering};

/// The timer that sends to a channel, as the channel knows it.
pub(super) struct SendingTimer<T> {
    pub(super) stopper: Stopper,
    /// The process in which it fires.
    pub(super) process: u64,
    /// The number of the last value that must not be received any more. Under the channel's lock.
    pub(super) stale: AtomicU64,
    /// The number of a value.
    pub(super) number: fn(&T) -> u64,
}

impl<T> SendingTimer<T> {
    pub(super) fn stop(&self) {
        self.stopper.stop();
    }

    pub(super) fn is_due(&self) -> bool {
        self.is_parents() || self.stopper.is_due()
    }

    /// Returns true in the child of a fork, if the timer was made before: it fires in the parent only.
    pub(super) fn is_parents(&self) -> bool {
        self.process != process()
    }

    /// Returns true if a value that comes back was sent before the timer was stopped, or set anew. Under the channel's lock.
    pub(super) fn is_stale(&self, value: &T) -> bool {
        // Relaxed: under the channel's lock.
        (self.number)(value) <= self.stale.load(Ordering::Relaxed)
    }
}
