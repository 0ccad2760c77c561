//! The channel of a timer: the end that the timer has, and what it does to the other.
//!
//! Used by `time::alarm`, under the lock of the scheduler's timers: so no goroutine is woken here, and nothing yields. The
//! timer's end does not keep the channel alive, and dropping it does not close the channel; the channel keeps the timer
//! alive.
//!
//! A timer fires when a worker gets round to it, and waiting goroutines have to wait for that. Operations that do not wait,
//! or have yet to decide whether to wait, check the time themselves: [`Core::fresh`] and [`Core::freshen`] fire the timer
//! if it is due. (Go does so since 1.23 for timers on whose channels no goroutine waits.) The note of such a channel always
//! says TIMED, and never PLAIN or QUIET, so that an operation on another channel pays nothing for it. As the timers' lock
//! comes before a channel's, no channel's lock is held meanwhile.

use super::core::Core;
use super::handle::{Receiver, Sender};
use super::locked::Locked;
use super::sending_timer::SendingTimer;
use super::state::{Received, Sent};
use gorun_scheduler::{Moment, Stopper, Wake, process};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The sender's end.
pub(crate) struct TimerEnd(Weak<Core<Instant>>);

fn number(value: &Instant) -> u64 {
    Moment::from(*value).number()
}

/// What became of a value.
#[must_use]
pub(crate) enum Tick {
    /// It is in the buffer, or with a receiver, who is to be woken; and whether there are watchers to be told.
    Taken(Option<Wake>, bool),
    /// Nobody has taken the one before, and this one is gone.
    Late,
    /// Nobody ever will.
    Closed,
}

impl TimerEnd {
    pub(crate) fn new(sender: Sender<Instant>) -> TimerEnd {
        let core = Arc::downgrade(&sender.core);
        sender.forget();
        TimerEnd(core)
    }

    pub(crate) fn send(&self, value: Instant) -> Tick {
        let Some(core) = self.0.upgrade() else { return Tick::Closed };
        let mut state = core.lock();
        let sent = state.send(&Cell::new(Some(value)));
        let watched = state.release();
        match sent {
            Sent::Done(receiver) => Tick::Taken(receiver, watched),
            Sent::Full => Tick::Late,
            Sent::Closed => Tick::Closed,
        }
    }

    /// After [`Tick::Taken`], without the timers' lock.
    pub(crate) fn tell_watchers(&self) {
        if let Some(core) = self.0.upgrade() {
            core.tell_watchers();
        }
    }

    pub(crate) fn close(&self) {
        if let Some(core) = self.0.upgrade() {
            core.close();
        }
    }
}

impl<T> Core<T> {
    /// Fires the channel's timer if it is due. No channel's lock may be held.
    #[inline]
    pub(crate) fn freshen(&self) {
        if self.is_timed() {
            self.ring_if_due();
        }
    }

    #[cold]
    fn ring_if_due(&self) {
        let Some(timer) = self.timer() else { return };
        if timer.is_parents() {
            // Nothing would ever come. What is in the buffer is received all the same.
            self.close();
        } else if timer.stopper.ring_if_due() {
            self.tell_watchers();
        }
    }

    /// Like `fresh`, for an operation that holds the lock: it is released meanwhile.
    #[inline]
    pub(super) fn fresh<'a>(&'a self, state: Locked<'a, T>) -> Locked<'a, T> {
        if state.is_timed() && state.len() == 0 && self.timer().is_some_and(SendingTimer::is_due) {
            drop(state);
            self.ring_if_due();
            return self.lock();
        }
        state
    }
}

impl Receiver<Instant> {
    /// `timer` sends here: the channel keeps it, and stops it when the last receiver goes.
    pub(crate) fn sent_by(&self, timer: Stopper) {
        self.core.set_timer(SendingTimer { stopper: timer, process: process(), stale: AtomicU64::new(0), number });
    }

    /// Takes a value back that nobody has received: whether there was one. Whoever has got one up to the one with the
    /// number `last` keeps it, or it is gone.
    pub(crate) fn take_back(&self, last: u64) -> bool {
        let mut state = self.core.lock();
        if let Some(timer) = self.core.timer() {
            // Relaxed: under the channel's lock.
            timer.stale.store(last, Ordering::Relaxed);
        }
        let taken = state.receive(&Cell::new(None));
        // Nobody can wait to send: there is nobody to be woken, and nobody to be told of the room.
        let _watched = state.release();
        matches!(taken, Received::Value(..))
    }
}
