//! Decides when a worker next polls beyond its own queues: timers, its inbox, the injector, and unattended seats.
//!
//! Each worker has its own, and updates it at each look; the result is in the worker's seat, where the loop compares it
//! with the round. A turn may take 25 ns or 25 ms, so a number of rounds is no bound in time, and the clock, read between
//! any two turns, would cost as much as a turn. So the number adapts to the turns: it is what fits into [`AIM`], by their
//! length since the last measurement, and [`MOST`] at most; while that is what fits, the clock is read at every fourth look
//! only.
//!
//! * **L1.** The round of the next look (`Seat::look_at`) is written by the worker at each look, and by the monitor, which
//!   moves it to the past. Either may overwrite the other's: then the worker is about to look, or the monitor comes again.
//! * **L2.** A longer turn counts at once, and its weight decays by halves: so one long turn among short ones keeps the
//!   next looks near. If no length is known, after a sleep or a look that the monitor requested, the next look is at the
//!   next turn.
//! * **L3.** Turns that suddenly become longer are noticed at the next look, which may be [`MOST`] of them away. The
//!   monitor moves the look of a worker that has made few rounds since it was last seen (`monitor`).

/// Rounds from one look to the next at most (a prime, as in Go's `schedule`).
pub(crate) const MOST: u32 = 61;
/// Rounds after which the clock is read, where turns are short: a window of the gauge in `turn_length`.
pub(crate) const WINDOW: u32 = 4 * MOST;
/// Nanoseconds from one look to the next, as far as turns can be foreseen: half of the millisecond that is aimed at.
const AIM: u64 = 500_000;

#[derive(Debug)]
pub(crate) struct Pace {
    /// The round of the next look, if the monitor does not want one before.
    due: u32,
    /// Rounds that fit in between two looks.
    fit: u32,
    /// How long a turn is taken to be, in nanoseconds.
    turn: u64,
    /// The last measurement: in which round, and when; 0 where there is none.
    measured: (u32, u64),
    /// Looks that were due by themselves.
    looks: u32,
}

impl Pace {
    pub(crate) const fn new() -> Pace {
        Pace { due: 0, fit: 1, turn: AIM, measured: (0, 0), looks: 0 }
    }

    /// At a look in `round`: the round of the next one, and the time, if the clock was read. `earliest`: when the first of
    /// the worker's timers is due.
    pub(crate) fn look(&mut self, round: u32, earliest: u64, clock: impl FnOnce() -> u64) -> (u32, Option<u64>) {
        let in_time = round == self.due;
        self.looks = self.looks.wrapping_add(u32::from(in_time));
        let (before, at) = self.measured;
        let turns = round.wrapping_sub(before);
        if in_time && at != 0 && self.fit == MOST && turns < WINDOW {
            self.due = round.wrapping_add(MOST);
            return (self.due, None);
        }
        let now = clock();
        self.measured = (round, now);
        // L2.
        self.turn = if in_time && at != 0 {
            let mean = now.saturating_sub(at) / u64::from(turns.max(1));
            mean.max(self.turn.min(4 * AIM) / 2).max(1)
        } else {
            AIM
        };
        let fit = |time: u64| u32::try_from(time / self.turn).unwrap_or(MOST).clamp(1, MOST);
        self.fit = fit(AIM);
        self.due = round.wrapping_add(self.fit.min(fit(earliest.saturating_sub(now)).saturating_add(1)));
        (self.due, Some(now))
    }

    /// Returns true if this is one of every `n` looks, without those that the monitor wanted.
    pub(crate) fn is_one_of(&self, n: u32) -> bool {
        self.looks.is_multiple_of(n)
    }

    /// How long the turns are is not known any more.
    pub(crate) fn forget(&mut self) {
        self.measured.1 = 0;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Looks, as often as the pace says, through `turns` turns of so many nanoseconds. The longest time between two looks,
    /// and how often the clock was read.
    fn looks(pace: &mut Pace, (round, now): &mut (u32, u64), turns: u32, length: u64) -> (u64, u32) {
        let (end, mut longest, mut reads) = (*round + turns, 0, 0);
        while *round < end {
            let (every, read) = pace.look(*round, u64::MAX, || *now);
            let every = every - *round;
            reads += u32::from(read.is_some());
            *round += every;
            *now += u64::from(every) * length;
            longest = longest.max(u64::from(every) * length);
        }
        (longest, reads)
    }

    #[test]
    fn a_bound_in_time_for_turns_of_any_length() {
        for length in [25, 10_000, 200_000, 2_000_000, 50_000_000] {
            let (mut pace, mut at) = (Pace::new(), (1, 1_000_000_000));
            let (longest, _) = looks(&mut pace, &mut at, 10_000, length);
            assert!(longest <= AIM.max(length), "{longest} ns between two looks, with turns of {length}");
        }
    }

    #[test]
    fn short_turns_cost_a_look_in_61_and_the_clock_in_244() {
        let (mut pace, mut at) = (Pace::new(), (1, 1_000_000_000));
        looks(&mut pace, &mut at, 500, 25);
        let (longest, reads) = looks(&mut pace, &mut at, 61_000, 25);
        assert_eq!((longest, reads), (61 * 25, 250));
    }

    #[test]
    fn longer_turns_are_seen_at_once_and_shorter_ones_by_and_by() {
        let (mut pace, mut at) = (Pace::new(), (1, 1_000_000_000));
        looks(&mut pace, &mut at, 1000, 25);
        looks(&mut pace, &mut at, 2 * WINDOW, 2_000_000);
        assert_eq!(looks(&mut pace, &mut at, 100, 2_000_000).0, 2_000_000);
        assert_eq!(looks(&mut pace, &mut at, 2, 25).0, 25);
        looks(&mut pace, &mut at, 1000, 25);
        assert_eq!(looks(&mut pace, &mut at, 1000, 25).0, 61 * 25);
    }

    #[test]
    fn short_turns_in_between_do_not_hide_the_long_ones() {
        let (mut pace, mut at) = (Pace::new(), (1, 1_000_000_000));
        for _ in 0..100 {
            let before = at.0;
            looks(&mut pace, &mut at, 1, 2_000_000);
            looks(&mut pace, &mut at, 1, 2_000);
            assert_eq!(at.0, before + 2);
        }
    }

    #[test]
    fn the_look_comes_in_time_for_the_earliest_timer() {
        let (mut pace, mut at) = (Pace::new(), (1, 1_000_000_000));
        looks(&mut pace, &mut at, 1000, 10_000);
        let (next, _) = pace.look(at.0, at.1 + 100_000, || at.1);
        assert!((10..=12).contains(&(next - at.0)), "{next} after {at:?}");
    }

    #[test]
    fn a_look_that_the_monitor_wanted_begins_anew() {
        let (mut pace, mut at) = (Pace::new(), (1, 1_000_000_000));
        looks(&mut pace, &mut at, 1000, 25);
        let looked = pace.looks;
        assert_eq!(pace.look(at.0 - 7, u64::MAX, || at.1), (at.0 - 6, Some(at.1)));
        assert_eq!(pace.looks, looked);
    }
}
