//! A timer for a channel that nobody has asked for: a time, and nothing more.
//!
//! Used by `timer`. What a timer does can be seen only through its channel; so before somebody asks for that there is
//! nothing to be done when it is time, and the timer need not be known to any worker, nor have a channel. Most timers are
//! a precaution, stopped or dropped long before their time. (In Go, since 1.23, a timer is in no heap while nobody waits
//! in its channel.) When the channel is asked for, it and the timer are made, and are as if they had been all the time.
//!
//! * **L1.** `at` is [`MADE`] from when the channel is made on, which happens once; what the timer is, is then decided in
//!   `alarm`. Before, `at` alone says whether it is pending, and every change to it is one exchange.
//!
//! The bad interleaving: one asks for the channel, has read the time, and sets the timer that it has made; another one has
//! stopped it in between. Hence the maker exchanges the time for `MADE`: the stop comes before, and the timer is not set,
//! or it comes after and waits for the maker.

use super::alarm::{ChannelTimer, default_home};
use crate::chan::Receiver;
use gorun_scheduler::{Moment, TimerHome};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Instead of a time: not pending.
const STOPPED: u64 = u64::MAX;
/// L1.
const MADE: u64 = u64::MAX - 1;

pub(super) struct LazyTimer {
    at: AtomicU64,
    /// `None` if a plain thread has made it.
    home: Option<TimerHome>,
    made: OnceLock<ChannelTimer>,
}

impl LazyTimer {
    /// One that is pending.
    #[inline]
    pub(super) fn new(at: Moment) -> LazyTimer {
        LazyTimer { at: AtomicU64::new(at.number()), home: TimerHome::here(), made: OnceLock::new() }
    }

    pub(super) fn channel(&self) -> &Receiver<Instant> {
        &self.made().receiver
    }

    /// Returns true if it was pending, or its value not received.
    #[inline]
    pub(super) fn set(&self, at: Moment) -> bool {
        self.change(at.number()).unwrap_or_else(|| self.made().set(at, None))
    }

    /// As `set`, without a new time.
    #[inline]
    pub(super) fn stop(&self) -> bool {
        self.change(STOPPED).unwrap_or_else(|| self.made().stop())
    }

    /// Returns true if it was pending; `None` if the channel has been made.
    #[inline]
    fn change(&self, to: u64) -> Option<bool> {
        // Relaxed, all: the word is all there is to know, and what is `MADE` is seen through `made`.
        let mut at = self.at.load(Ordering::Relaxed);
        while at != MADE {
            match self.at.compare_exchange_weak(at, to, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(at != STOPPED),
                Err(now) => at = now,
            }
        }
        None
    }

    fn made(&self) -> &ChannelTimer {
        self.made.get_or_init(|| {
            let timer = ChannelTimer::new(self.home.clone().unwrap_or_else(default_home));
            // Relaxed: as above.
            let at = self.at.swap(MADE, Ordering::Relaxed);
            if at != STOPPED {
                timer.start(Moment::from_number(at));
            }
            timer
        })
    }
}
