//! The channel of a timer: the end that the timer has, and what it does to the other.
//!
//! Used by `time::alarm`, under the lock of the scheduler's timers: so nobody is woken here, and nothing yields. The
//! timer's end does not keep the channel, and its going does not close it; the channel keeps the timer.

use super::core::Core;
use super::state::{Received, Sent, Side};
use super::{Receiver, Sender};
use gorun_scheduler::{Stopper, Wake};
use std::cell::Cell;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The sender's end.
pub(crate) struct TimerEnd(Weak<Core<Instant>>);

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

impl Receiver<Instant> {
    /// `timer` sends here: the channel keeps it, and stops it when the last receiver goes.
    pub(crate) fn sent_by(&self, timer: Stopper) {
        self.core.set_timer(timer);
    }

    /// Takes a value back that nobody has received: whether there was one.
    pub(crate) fn take_back(&self) -> bool {
        // N1: values come in under the lock of the timers only, which our caller has: a "no" is no older than the last.
        if !self.core.may_proceed(Side::Receive) {
            return false;
        }
        let mut state = self.core.lock();
        let taken = state.receive();
        // Nobody can wait to send: there is nobody to be woken, and nobody to be told of the room.
        let _watched = state.release();
        matches!(taken, Received::Value(..))
    }
}
