//! How long a worker's turns are, and so whether what waits in its queue is worth another worker.
//!
//! Gauged by the worker where it reads the clock (`poll_interval`), kept in its seat; read by `processor` before it wakes somebody,
//! by `worker` before it steals, and by the monitor, which doubts it.
//!
//! A wake-up, a theft, and the cache lines that follow a goroutine to another processor and back take microseconds.
//! Goroutines that hand over to each other all the time, with turns of 50 ns, are through before that: a second worker then
//! only makes them slower (four senders and four receivers on one channel: 45 ns an item on one worker, 120 on two). So
//! ready goroutines that will have had their turns within [`WORTH`], by the length of the last few hundred, are left to
//! their own worker.
//!
//! * **Unbegun goroutines count as what they are spawned by.** A few are like those that have been running here. More are a
//!   tree, or the beginning of one, each of which may spawn others: that is how work is spread, and worth a worker. But those of a
//!   *loop*, a goroutine that has spawned dozens in one turn, will be as short as the ones before.
//! * **It is a guess, never a promise.** A worker that has slept, or has had one long turn in its last windows, counts as
//!   coarse, and one that has got round to too little in the monitor's glance is made so: what waits there waits for some two
//!   milliseconds, if somebody sleeps; for twelve, if he has only just fallen asleep.

use crate::base::poll_interval::WINDOW;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Nanoseconds of waiting work that are worth another worker.
const WORTH: u64 = 5_000;
/// So many unbegun goroutines are a tree, unless they are of a loop.
const TREE: usize = 4;
/// Turns of which a single one is worth another worker are fewer than this in the monitor's glance.
pub(crate) const FINE_IN_GLANCE: u32 = 200;
/// Not known to be fine.
const COARSE: u32 = u32::MAX;

/// Anybody's view of it.
#[derive(Debug)]
pub(crate) struct Grain {
    /// The mean length of a turn, in nanoseconds, in the coarser of the last two windows. A guess, with which
    /// nothing is published.
    turn: AtomicU32,
    /// True if who spawns here is a loop.
    from_loop: AtomicBool,
}

impl Grain {
    pub(crate) const fn new() -> Grain {
        Grain { turn: AtomicU32::new(COARSE), from_loop: AtomicBool::new(false) }
    }

    /// Returns true if so many ready goroutines are worth another worker.
    #[inline]
    pub(crate) fn is_worth(&self, ready: usize) -> bool {
        // Relaxed: a guess.
        ready as u64 * u64::from(self.turn.load(Ordering::Relaxed)) >= WORTH
    }

    /// Returns true if so many are, of which some have not begun.
    #[inline]
    pub(crate) fn is_worth_with(&self, unbegun: usize, ready: usize) -> bool {
        // Relaxed: a guess.
        let tree = unbegun >= TREE && !self.from_loop.load(Ordering::Relaxed);
        tree || self.is_worth(unbegun + ready)
    }

    /// Called by the worker: the goroutine that spawns.
    #[inline]
    pub(crate) fn spawns_from_loop(&self, from_loop: bool) {
        // Relaxed, both: a guess, which only we write.
        if self.from_loop.load(Ordering::Relaxed) != from_loop {
            self.from_loop.store(from_loop, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_fine(&self) -> bool {
        // Relaxed: a guess.
        self.turn.load(Ordering::Relaxed) != COARSE
    }

    /// It is not known any more.
    pub(crate) fn forget(&self) {
        // Relaxed: a guess.
        self.turn.store(COARSE, Ordering::Relaxed);
    }
}

/// The worker's own.
#[derive(Debug)]
pub(crate) struct Gauge {
    since: Cell<u64>,
    round: Cell<u32>,
    /// Of the window before.
    last: Cell<u32>,
}

impl Gauge {
    pub(crate) const fn new() -> Gauge {
        Gauge { since: Cell::new(0), round: Cell::new(0), last: Cell::new(COARSE) }
    }

    /// At a look at the clock. A window ends at the first one after [`WINDOW`] rounds; the first one after a sleep begins it.
    pub(crate) fn read(&self, grain: &Grain, round: u32, now: u64) {
        let turns = round.wrapping_sub(self.round.get());
        let begun = self.since.get() != 0;
        if begun && turns < WINDOW {
            return;
        }
        self.round.set(round);
        let took = now.saturating_sub(self.since.replace(now));
        if !begun {
            return;
        }
        let mean = u32::try_from(took / u64::from(turns)).unwrap_or(COARSE);
        let turn = mean.max(self.last.replace(mean));
        // Relaxed: a guess.
        grain.turn.store(turn, Ordering::Relaxed);
    }

    /// Before a sleep.
    pub(crate) fn forget(&self, grain: &Grain) {
        self.last.set(COARSE);
        self.since.set(0);
        grain.forget();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Each window takes so many nanoseconds a turn.
    fn run(gauge: &Gauge, grain: &Grain, (round, now): &mut (u32, u64), turns: &[u64]) {
        for turn in turns {
            *round += WINDOW;
            *now += turn * u64::from(WINDOW);
            gauge.read(grain, *round, *now);
        }
    }

    #[test]
    fn short_turns_are_fine_until_one_window_is_not() {
        let (gauge, grain, mut at) = (Gauge::new(), Grain::new(), (0, 1_000_000_000));
        assert!(grain.is_worth(1), "nothing is known yet");
        run(&gauge, &grain, &mut at, &[50]);
        assert!(grain.is_worth(1), "one window is not enough");
        run(&gauge, &grain, &mut at, &[50, 50]);
        assert!(grain.is_fine() && !grain.is_worth(8) && grain.is_worth(1000));
        run(&gauge, &grain, &mut at, &[20_000, 50]);
        assert!(grain.is_worth(1), "the coarser of the last two");
        run(&gauge, &grain, &mut at, &[50]);
        assert!(!grain.is_worth(8));
    }

    #[test]
    fn a_few_unbegun_ones_are_as_short_as_the_rest_and_more_are_a_tree_or_a_loop() {
        let (gauge, grain, mut at) = (Gauge::new(), Grain::new(), (0, 1_000_000_000));
        assert!(grain.is_worth_with(1, 0), "nothing is known yet");
        run(&gauge, &grain, &mut at, &[50, 50, 50]);
        assert!(!grain.is_worth_with(1, 0) && !grain.is_worth_with(TREE - 1, 20));
        assert!(grain.is_worth_with(TREE, 0));
        grain.spawns_from_loop(true);
        assert!(!grain.is_worth_with(64, 0) && grain.is_worth_with(1000, 0));
        grain.spawns_from_loop(false);
        assert!(grain.is_worth_with(TREE, 0));
    }

    #[test]
    fn a_sleep_forgets() {
        let (gauge, grain, mut at) = (Gauge::new(), Grain::new(), (0, 1_000_000_000));
        run(&gauge, &grain, &mut at, &[50, 50, 50]);
        assert!(!grain.is_worth(8));
        gauge.forget(&grain);
        assert!(grain.is_worth(1));
        run(&gauge, &grain, &mut at, &[50]);
        assert!(grain.is_worth(1), "the window that was slept in does not count");
    }
}
