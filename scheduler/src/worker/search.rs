//! Between two turns, when the local queues have nothing: timers, inbox, injector, the others' seats, sleep; and whether
//! this worker is one too many.
//!
//! The second half of the worker, called by its loop, always with the thread's own block loaded, so that everything may
//! be called here.

use crate::base::poll_interval;
use crate::base::process;
use crate::base::unwind::contained;
use crate::goroutine::block::Ref;
use crate::goroutine::runtime_head::STOPPING;
use crate::processor::core::Processor;
use crate::processor::spares::{KEEP, Spares, Waited};
use crate::queue::run_queue::{Injector, RunQueue};
use crate::seat::seats::Seat;
use crate::timer::clock;
use crate::timer::clock::NEVER;
use crate::timer::timers::{Due, Timers};
use crate::worker::fork;
use crate::worker::state::Worker;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a thread that has forked waits in line (R5 in `fork`): a century.
const FOR_GOOD: Duration = Duration::from_secs(3_000_000_000);
/// Turns of a spin loop before a lone goroutine is stolen: about a microsecond.
const PATIENCE: u32 = 32;
/// At every so many looks the oldest unbegun goroutine goes first. Not at each: that would run a tree of goroutines breadth
/// first (`run_queue`).
const OLDEST: u32 = 8;
/// From one look to the next so many timers are fired, if so many are due: one for each turn. Not all of them at once, so
/// that each goroutine has its turn while what was fetched for it is in the cache.
const TIMERS: usize = poll_interval::MOST as usize;

impl Worker {
    /// The next goroutine to run; `None` when the thread is to end. At home. `asked`: the monitor has seen something that
    /// waits, so it is looked for elsewhere first, as it is from time to time in any case.
    #[inline(never)]
    pub(super) fn find(&mut self, asked: bool) -> Option<Ref> {
        // Relaxed: the monitor goes by `running` while a goroutine runs, and there is none.
        self.seat().running.store(std::ptr::null_mut(), Ordering::Relaxed);
        self.processor.release_outdated();
        let alone = self.processor.pinned.get() == 0;
        if self.processor.is_aside() {
            // A spoilt thread stays for pinned goroutines and other lockers, and is replaced already.
            if self.processor.lockers.get() > 0 || !alone {
                return self.wait_for_locked();
            }
            self.leave();
            return None;
        }
        if self.is_one_too_many() && !self.step_aside() {
            return None;
        }
        if (asked || self.seat().look_is_due(self.round))
            && let Some(g) = self.look_beyond()
        {
            return Some(g);
        }
        loop {
            let found = match self.processor.pop() {
                Some(g) => g,
                None => self.search()?,
            };
            if let Some(g) = self.unless_held_back(found) {
                return Some(g);
            }
        }
    }

    /// What has waited for longest, wherever that is: so that nobody waits behind goroutines that keep their worker busy.
    fn look_beyond(&mut self) -> Option<Ref> {
        let (next, now) = self.pace.look(self.round, self.processor.seat_ref().timers.earliest(), clock::now);
        self.seat().looks_at(next);
        if let Some(now) = now {
            self.processor.gauge.read(&self.seat().grain, self.round, now);
        }
        let missing = TIMERS.saturating_sub(std::mem::take(&mut self.fired));
        self.fire_own_timers(missing);
        self.processor.empty_inbox();
        let found = self.take_neglected().or_else(|| {
            // Q1. Before the injector: that may never be empty.
            let now = self.pace.is_one_of(OLDEST);
            now.then(|| self.processor.queue.oldest()).flatten()
        });
        let shared = &self.processor.shared;
        let injected = || shared.injector.steal().success();
        // V3: what was held back begins now, though we may never run out of work at home, nor the injector.
        let held = || if self.may_take_held() { shared.held.steal().success() } else { None };
        let found =
            found.or_else(|| if self.pace.is_one_of(2) { held().or_else(injected) } else { injected().or_else(held) });
        found.and_then(|g| self.unless_held_back(g))
    }

    /// Returns true if this worker is to retire. Comes back first, if it was found stuck.
    fn is_one_too_many(&self) -> bool {
        let spares = &self.processor.shared.spares;
        spares.come_back(self.seat());
        self.processor.pinned.get() == 0 && spares.take_excess()
    }

    /// The only goroutine of this worker's thread waits: so does the thread.
    #[cold]
    fn wait_for_locked(&mut self) -> Option<Ref> {
        loop {
            if let Some(g) = self.look_at_home() {
                return Some(g);
            }
            self.seat().announce_sleep(true);
            if self.processor.shared.phase() != STOPPING && self.seat().inbox.is_empty() {
                let _slept = self.sleep_until(self.seat().timers.earliest());
            }
            self.seat().announce_sleep(false);
            if self.processor.shared.phase() == STOPPING {
                return None;
            }
        }
    }

    /// Retires: gives away what it has, and waits in line. Returns true if it is to go on.
    #[cold]
    fn step_aside(&mut self) -> bool {
        self.processor.give_away();
        let shared = &self.processor.shared;
        shared.spares.set_aside(self.seat());
        if self.seat().timers.earliest() != NEVER {
            // Somebody else has to wake for them.
            shared.notify();
        }
        let has_forked = self.processor.has_forked.get() || fork::has_forked();
        let keep = if has_forked { FOR_GOOD } else { KEEP };
        match shared.spares.wait(self.processor.index, keep, || shared.phase() == STOPPING) {
            Waited::BroughtIn => {
                let _was = self.seat().set_unattended(false);
                true
            }
            Waited::TooLong => {
                self.hand_back_seat();
                false
            }
        }
    }

    /// The thread is of no use to others: another worker has been at work for it since it was locked.
    #[cold]
    fn leave(&mut self) {
        self.processor.give_away();
        self.processor.shared.spares.write_off();
        self.hand_back_seat();
    }

    fn hand_back_seat(&mut self) {
        let queue = std::mem::replace(&mut self.processor.queue, RunQueue::new());
        self.processor.shared.spares.leave(self.processor.index, queue);
    }

    /// What is ours, without counting as a searcher.
    fn look_at_home(&mut self) -> Option<Ref> {
        self.processor.empty_inbox();
        self.fire_own_timers(1);
        self.processor.pop()
    }

    fn search(&mut self) -> Option<Ref> {
        if let Some(g) = self.look_at_home() {
            return Some(g);
        }
        if self.processor.pinned.get() > 0 && self.processor.shared.seats.len() > 1 {
            // Neither asleep nor searching, so nobody counts on us.
            let inbox = &self.processor.seat_ref().inbox;
            if self.linger.until(|| !inbox.is_empty())
                && let Some(g) = self.look_at_home()
            {
                return Some(g);
            }
        }
        let idle_index = self.processor.index;
        self.processor.shared.idle.start_search();
        let mut woken = false;
        loop {
            if let Some(g) = self.look_at_home().or_else(|| self.look_around()) {
                if self.processor.shared.idle.end_search() {
                    // The last searcher leaves: if there is more, another one should look.
                    if self.anything_to_steal() {
                        self.processor.shared.notify();
                    }
                }
                return Some(g);
            }
            if std::mem::take(&mut woken) {
                self.processor.shared.idle.count_vain();
            }
            // Sleeping: first into the list, then one more look (`idle`), then sleep.
            self.processor.shared.idle.fall_asleep(idle_index);
            self.seat().announce_sleep(true);
            let stopping = self.processor.shared.phase() == STOPPING;
            self.processor.gauge.forget(&self.seat().grain);
            self.pace.forget();
            self.seat().looks_at(self.round.wrapping_add(1));
            // If the monitor has found us stuck, that is over: Dekker with `monitor`, which wakes whom it sees asleep.
            let stuck = self.seat().is_unattended();
            if !stopping && !stuck && !self.anything_to_steal() && self.seat().inbox.is_empty() {
                woken = self.sleep_until(self.earliest_timer());
            }
            self.seat().announce_sleep(false);
            self.processor.shared.idle.wake_up(idle_index);
            if self.processor.shared.phase() == STOPPING {
                let _last = self.processor.shared.idle.end_search();
                return None;
            }
            self.processor.shared.wake_monitor();
            // Fewer may be wanted than when it fell asleep.
            if self.is_one_too_many() {
                // Whoever has come meanwhile has seen a searcher, and has woken nobody (D1 in `idle`): another one looks.
                if self.processor.shared.idle.end_search() {
                    self.processor.shared.notify();
                }
                if !self.step_aside() {
                    return None;
                }
                self.processor.shared.idle.start_search();
            }
        }
    }

    /// The earliest timer that this worker might be the first to see: its own, and those of seats whose worker is busy,
    /// stuck or gone.
    fn earliest_timer(&self) -> u64 {
        let mine: *const Seat = self.processor.seat_ref();
        let seats = self.processor.shared.seats.worth_a_look();
        let seats = seats.filter(|seat| std::ptr::eq(*seat, mine) || !seat.is_asleep());
        seats.map(|seat| seat.timers.earliest()).min().unwrap_or(NEVER)
    }

    /// Parks the thread until it is unparked, at most until a time in the timers' nanoseconds. Returns true if it was not that late
    /// already.
    #[expect(clippy::disallowed_methods, reason = "the worker has nothing to run")]
    fn sleep_until(&self, at: u64) -> bool {
        self.seat().sleeps_until(at);
        if at == NEVER {
            std::thread::park();
            return true;
        }
        let now = clock::now();
        if at > now {
            std::thread::park_timeout(Duration::from_nanos(at - now));
        }
        at > now
    }

    fn anything_to_steal(&self) -> bool {
        let shared = &self.processor.shared;
        !shared.injector.is_empty()
            || (!shared.held.is_empty() && self.may_take_held())
            || shared.seats.worth_a_look().any(Seat::has_work)
    }

    /// V3 in `spares`, D3 in `abort_shields`, G3 in `memory/guard`: whether what was held back may begin here.
    fn may_take_held(&self) -> bool {
        let shared = &self.processor.shared;
        // Relaxed: a note for a while.
        shared.may_begin_at(self.seat())
            && !shared.no_stack.load(Ordering::Relaxed)
            && (!shared.spares.dozens_are_stuck() || Spares::another_is_free(&shared.seats, self.seat()))
    }

    /// The injector, then the other seats, from a random one on.
    fn look_around(&mut self) -> Option<Ref> {
        let shared = self.processor.shared.clone();
        let mine: *const Seat = self.processor.seat_ref();
        // Before what comes from outside, which may be many that keep us for long.
        if let Some(g) = self.take_neglected() {
            return Some(g);
        }
        let batch = |from: &Injector| self.processor.queue.take_batch(from);
        if let Some(g) = batch(&shared.injector) {
            return Some(g);
        }
        if !shared.held.is_empty() && self.may_take_held() {
            // One at a time, where each waits for a worker that is free.
            let careful = shared.spares.is_careful();
            let held = if careful { shared.held.steal().success() } else { batch(&shared.held) };
            if held.is_some() {
                return held;
            }
        }
        let start = self.processor.random(shared.seats.len());
        let others = || shared.seats.worth_a_look_from(start).filter(|seat| !std::ptr::eq(*seat, mine));
        let mut lone = false;
        for seat in others() {
            // What is not worth it is better left there.
            if seat.has_work() {
                // A single goroutine is most often one that its worker is about to run itself.
                if seat.stealer.len() == 1 && !seat.is_neglected() {
                    lone = true;
                } else if let Some(g) = self.processor.queue.steal_batch(&seat.stealer) {
                    return Some(g);
                }
            }
            if seat.timers.earliest() != NEVER {
                fire_timers(&seat.timers, &self.processor, &mut self.due, 1);
            }
        }
        if lone {
            // About as long as it takes to run a short one, and much less than a wake-up.
            (0..PATIENCE).for_each(|_| std::hint::spin_loop());
            let worthy = || others().filter(|seat| seat.has_work());
            let found = worthy().find_map(|seat| self.processor.queue.steal_batch(&seat.stealer));
            if found.is_some() {
                return found;
            }
        }
        self.processor.pop()
    }

    /// From the seats whose workers don't come to it (S4): fires their timers, and takes one goroutine. A worker that always finds
    /// work at home, or in the injector, would never come to the others' seats.
    ///
    /// What has begun goes first, wherever it is: a worker may be stuck in a goroutine that waits for a lock of std's, and the
    /// lock may be held by one of those; what has not begun may want the lock, too, and would stop us as well. First of all
    /// those that were woken last before their worker got stuck: the queues may hold many that will stop us.
    fn take_neglected(&mut self) -> Option<Ref> {
        let shared = self.processor.shared.clone();
        let mine: *const Seat = self.processor.seat_ref();
        let neglected = || {
            let seats = shared.seats.worth_a_look();
            seats.filter(|seat| seat.is_neglected() && !std::ptr::eq(*seat, mine))
        };
        let mut any = false;
        for seat in neglected() {
            any = true;
            if seat.timers.earliest() != NEVER {
                fire_timers(&seat.timers, &self.processor, &mut self.due, TIMERS);
            }
        }
        if !any {
            return None;
        }
        let woken = neglected().find_map(|seat| seat.next.steal());
        let begun = woken.or_else(|| neglected().find_map(|seat| seat.stealer.steal_ready()));
        begun.or_else(|| neglected().find_map(|seat| seat.stealer.steal_unbegun()))
    }

    fn fire_own_timers(&mut self, least: usize) {
        if self.seat().timers.earliest() != NEVER {
            self.fired += fire_timers(&self.processor.seat_ref().timers, &self.processor, &mut self.due, least);
        }
    }
}

/// Fires what is due of a seat's timers, ours or another's: at least so many if they are, and not many more. How many it
/// was that somebody has to run for.
fn fire_timers(timers: &Timers, processor: &Processor, due: &mut Due, least: usize) -> usize {
    let now = clock::now();
    let mut fired = 0;
    loop {
        let more = timers.fire(now, due);
        fired += due.woken.len() + due.called.len();
        see_to(processor, due);
        if !more || fired >= least {
            return fired;
        }
    }
}

/// Wakes what was claimed, through our own processor and in order, as [`Wake::wake_all`](crate::Wake::wake_all); and calls
/// the timers that want it.
pub(super) fn see_to(processor: &Processor, due: &mut Due) {
    let mut first = true;
    for wake in due.woken.drain(..) {
        match wake.into_goroutine() {
            Ok(g) if processor.shared.runs(&g) => {
                // SAFETY: it was claimed by us and is ours (G1), and it has waited, so it has a carrier (K1).
                unsafe { &*g.carrier.get() }.fetch_block();
                if std::mem::take(&mut first) {
                    processor.ready(g);
                } else {
                    processor.ready_last(g);
                }
            }
            Ok(g) => crate::processor::ready::ready(g),
            Err(other) => foreign(|| other.wake()),
        }
    }
    for timer in due.called.drain(..) {
        // SAFETY: it is the calling worker's.
        foreign(|| unsafe { timer.call(processor.as_above()) });
    }
}

/// Calls what may run wakers of users, on a worker without a goroutine. In the child of a fork in there the loop must not go on:
/// what is in its queues runs in the parent (R4 in `fork`).
#[inline]
fn foreign(f: impl FnOnce()) {
    let here = process::process();
    contained(f);
    if process::process() != here {
        fork::end_process();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::goroutine::handle::give_back_unused;
    use crate::goroutine::slab::take_block;
    use crate::processor::shared::Shared;
    use std::sync::Arc;

    /// A worker without a thread, and one that is stuck, whose queue it is.
    fn beside_one_that_is_stuck() -> (Worker, RunQueue) {
        crate::base::membarrier::register();
        let config = Config { workers: 2, spare_workers: 0, ..Config::from_env().unwrap() };
        let class_and_mode = config.check().unwrap();
        let no_thread = |_: &_, _, queue| Err((std::io::Error::other("a test"), queue));
        let shared = Arc::new(Shared::new(config, class_and_mode, (no_thread, |_, _| unreachable!())));
        let queues = [RunQueue::new(), RunQueue::new()];
        for queue in &queues {
            let index = crate::processor::spares::Hiring::add_seat(&shared, queue.stealer()).unwrap();
            shared.seats.get(index).sit_down();
        }
        shared.seats.get(1).set_unattended(true);
        let [mine, theirs] = queues;
        (Worker::new(Processor::new(shared, 0, mine)), theirs)
    }

    /// What comes from outside may be many that keep us for long.
    #[test]
    fn what_a_stuck_worker_leaves_goes_before_what_comes_from_outside() {
        let (mut worker, theirs) = beside_one_that_is_stuck();
        let [left, outside] = [(); 2].map(|()| take_block(None).unwrap());
        worker.processor.shared.injector.push(outside);
        theirs.push_ready(left);
        assert_eq!([(); 3].map(|()| worker.look_around()), [Some(left), Some(outside), None]);
        [left, outside].into_iter().for_each(give_back_unused);
    }
}
