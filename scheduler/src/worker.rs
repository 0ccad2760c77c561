//! The worker's loop: find → resume → settle, and sleep when there is nothing to find.
//!
//! One per OS thread, started by `scheduler`. Where work is sought, in which order, and why:
//!
//! 1. every 61 rounds (a prime, as in Go's `schedule`): timers, the inbox and the injector first, so that a full
//!    local queue can't starve them;
//! 2. the next slot and the two local queues (`Processor::pop`): no atomics shared with others;
//! 3. the inbox, timers that are due, the injector, the other seats' queues and overdue timers: *searching*;
//! 4. sleep until woken or until the earliest timer of this seat.

use crate::carrier::{Carrier, Suspended};
use crate::config::ThreadLocals;
use crate::current;
use crate::goroutine::Ref;
use crate::isolated::{self, Loaded};
use crate::parker::{Commit, Committed};
use crate::processor::Processor;
use crate::shared::{STOPPING, Seat};
use crate::timers::{self, Due, NEVER, Timers};
use crate::unwind::{AbortOnUnwind, fatal};
use crossbeam_deque::Steal;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

const FAIRNESS: u32 = 61;

pub(crate) struct Worker {
    processor: Processor,
    round: u32,
    due: Due,
    loaded: Loaded,
}

/// A goroutine that has left its stack, and is still the worker's.
#[derive(Clone, Copy)]
struct Left {
    g: Ref,
    why: Suspended,
}

impl Worker {
    /// For the thread that calls.
    pub(crate) fn new(processor: Processor) -> Worker {
        let loaded = Loaded::new(isolated::layout().ok());
        processor.home_block.set(loaded.home());
        Worker { processor, round: 0, due: Due::default(), loaded }
    }

    fn seat(&self) -> &Seat {
        self.processor.seat_ref()
    }

    /// Until the runtime stops.
    pub(crate) fn run(mut self) {
        let bomb = AbortOnUnwind("a panic in the scheduler");
        let _alt_stack = crate::stack::ensure_alt_stack();
        self.seat().sit_down();
        self.turns();
        bomb.pass();
    }

    /// Turn after turn.
    ///
    /// A goroutine that has left is let go of (committed, queued) only when another block than its own is loaded (F1):
    /// that of the next goroutine, or for a longer search the thread's own. F2: what is called in here and may touch a
    /// thread-local is not inlined.
    #[inline(never)]
    fn turns(&mut self) {
        let mut next = self.find();
        while let Some(g) = next {
            let mut left = self.turn(g);
            next = loop {
                if left.why == Suspended::Exit {
                    self.retire(left.g);
                }
                let Some(next) = self.find_here() else {
                    if left.why == Suspended::Yield && !self.round.is_multiple_of(FAIRNESS) {
                        // Nobody to yield to.
                        left = self.turn(left.g);
                        continue;
                    }
                    self.go_home();
                    self.let_go(left);
                    break self.find();
                };
                let (carrier, base) = self.prepare(next);
                // SAFETY: F1: the goroutine that left is still ours, and so is the next one. F2: see above.
                unsafe { self.loaded.switch(base) };
                self.let_go(left);
                left = Left { g: next, why: self.resume(carrier, next) };
            };
        }
        self.go_home();
    }

    /// One turn of one goroutine, with its block or the thread's own loaded.
    fn turn(&mut self, g: Ref) -> Left {
        let (carrier, base) = self.prepare(g);
        // SAFETY: F1: the goroutine is ours, and the thread's own block always. F2: see `turns`.
        unsafe { self.loaded.switch(base) };
        Left { g, why: self.resume(carrier, g) }
    }

    /// Loads the thread's own block: from here on everything may be called.
    fn go_home(&mut self) {
        let home = self.loaded.home();
        // SAFETY: F1: what is loaded is ours, and the thread's own block always. F2: see `turns`.
        unsafe { self.loaded.switch(home) };
    }

    fn resume(&self, carrier: NonNull<Carrier>, g: Ref) -> Suspended {
        match g.mode.get() {
            // SAFETY: K1, K2: the goroutine is ours (G1), the carrier its own or free, its block loaded.
            ThreadLocals::Isolated => unsafe { Carrier::resume(carrier, &g) },
            // SAFETY: as above; the thread's own block is loaded.
            ThreadLocals::Pinned => current::with_goroutine(&g, || unsafe { Carrier::resume(carrier, &g) }),
        }
    }

    /// A stack for `g`, and the block to load for it.
    #[inline]
    fn prepare(&self, g: Ref) -> (NonNull<Carrier>, usize) {
        let carrier = match NonNull::new(g.carrier.get()) {
            Some(carrier) => carrier,
            None => self.first_turn(g),
        };
        g.processor.set(&raw const self.processor);
        // SAFETY: K1: its own, or free and ours.
        let base = match unsafe { carrier.as_ref() }.block_base() {
            Some(base) => base,
            None => {
                // From here on it stays with this worker (K2).
                g.home.set(self.processor.seat());
                self.loaded.home()
            }
        };
        (carrier, base)
    }

    #[inline(never)]
    fn first_turn(&self, g: Ref) -> NonNull<Carrier> {
        match self.processor.take_carrier(g.class.get(), g.mode.get()) {
            Ok(carrier) => {
                g.carrier.set(carrier.as_ptr());
                carrier
            }
            // Its slot was reserved when it was spawned, guard and all where guards can run out; what is left
            // is a kernel that has no page tables to give.
            Err(error) => fatal(&format!("the stack reserved for a goroutine can't be had: {error}")),
        }
    }

    /// What `left` wants, now that its block is not loaded.
    #[inline]
    fn let_go(&mut self, left: Left) {
        match left.why {
            Suspended::Exit => {}
            Suspended::Yield => self.processor.push_back(left.g),
            Suspended::Park => self.settle(left.g),
        }
    }

    /// The commit step: the goroutine has left its stack, now it may be claimed for running.
    #[inline]
    fn settle(&mut self, g: Ref) {
        match g.parker.commit() {
            // Claimed while it was leaving (P2): it is still ours, and goes on.
            Commit::Claimed => self.processor.ready(g),
            // The abort's Dekker pair, see `Handle::abort`. The goroutine may run elsewhere by now, or be another one:
            // then the flag is not its, and the wait not the one that was committed (P4).
            Commit::Parked(wait) => {
                if g.abort.load(Ordering::SeqCst) && cfg!(panic = "unwind") {
                    self.abort(g, wait);
                }
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn abort(&mut self, g: Ref, wait: Committed) {
        // SAFETY: blocks are type-stable; it is this goroutine's parker.
        let wake = unsafe { wait.abort(NonNull::new_unchecked(g.as_ptr().cast_mut()).cast()) };
        self.due.woken.extend(wake);
        see_to(&self.processor, &mut self.due);
    }

    /// The goroutine has ended. Its carrier stays here, with its block loaded, unless it can't be used again.
    fn retire(&mut self, g: Ref) {
        // SAFETY: K1: it ran, so it has a carrier, and that is ours now.
        if !self.processor.keeps(unsafe { &*g.carrier.get() }) {
            self.go_home();
        }
        crate::exit::retire(&self.processor, g);
    }

    /// The next goroutine from the local queues, if it is not time to look elsewhere first.
    #[inline]
    fn find_here(&mut self) -> Option<Ref> {
        self.round = self.round.wrapping_add(1);
        // Relaxed: the monitor compares two looks.
        self.seat().rounds.store(self.round, Ordering::Relaxed);
        if self.round.is_multiple_of(FAIRNESS) { None } else { self.processor.pop() }
    }

    /// The next goroutine to run; `None` when the runtime stops. At home.
    #[inline(never)]
    fn find(&mut self) -> Option<Ref> {
        if self.round.is_multiple_of(FAIRNESS) {
            self.fire_own_timers();
            self.processor.empty_inbox();
            if let Steal::Success(g) = self.processor.shared.injector.steal() {
                return Some(g);
            }
        }
        if let Some(g) = self.processor.pop() {
            return Some(g);
        }
        self.find_slow()
    }

    #[cold]
    fn find_slow(&mut self) -> Option<Ref> {
        // Relaxed: an observation for the monitor.
        self.seat().busy.store(false, Ordering::Relaxed);
        let found = self.search();
        self.seat().busy.store(true, Ordering::Relaxed);
        found
    }

    /// What is ours, without counting as a searcher.
    fn look_at_home(&mut self) -> Option<Ref> {
        self.processor.empty_inbox();
        self.fire_own_timers();
        self.processor.pop()
    }

    fn search(&mut self) -> Option<Ref> {
        if let Some(g) = self.look_at_home() {
            return Some(g);
        }
        let idle_index = self.processor.index;
        self.processor.shared.idle.start_search();
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
            // Sleeping: first into the list, then one more look (`idle`), then sleep.
            self.processor.shared.idle.fall_asleep(idle_index);
            self.seat().announce_sleep(true);
            let stopping = self.processor.shared.phase() == STOPPING;
            if !stopping && !self.anything_to_steal() && self.seat().inbox.is_empty() {
                match self.seat().timers.earliest() {
                    NEVER => std::thread::park(),
                    at => {
                        let now = timers::now();
                        if at > now {
                            std::thread::park_timeout(Duration::from_nanos(at - now));
                        }
                    }
                }
            }
            self.seat().announce_sleep(false);
            self.processor.shared.idle.wake_up(idle_index);
            if self.processor.shared.phase() == STOPPING {
                let _last = self.processor.shared.idle.end_search();
                return None;
            }
            self.processor.shared.wake_monitor();
        }
    }

    fn anything_to_steal(&self) -> bool {
        !self.processor.shared.injector.is_empty() || self.processor.shared.seats.iter().any(|s| !s.stealer.is_empty())
    }

    /// The injector, then the other seats, from a random one on.
    fn look_around(&mut self) -> Option<Ref> {
        let shared = self.processor.shared.clone();
        loop {
            match shared.injector.steal_batch_and_pop(&self.processor.deque) {
                Steal::Success(g) => return Some(g),
                Steal::Retry => {}
                Steal::Empty => break,
            }
        }
        let seats = shared.seats.len();
        let start = self.processor.random(seats);
        for seat in (0..seats).map(|i| &shared.seats[(start + i) % seats]) {
            if std::ptr::eq(&raw const ***seat, self.processor.seat()) {
                continue;
            }
            loop {
                match seat.stealer.steal_batch_and_pop(&self.processor.deque) {
                    Steal::Success(g) => return Some(g),
                    Steal::Retry => {}
                    Steal::Empty => break,
                }
            }
            if seat.timers.earliest() != NEVER {
                fire_timers(&seat.timers, &self.processor, &mut self.due);
            }
        }
        self.processor.pop()
    }

    fn fire_own_timers(&mut self) {
        if self.seat().timers.earliest() != NEVER {
            fire_timers(&self.processor.seat_ref().timers, &self.processor, &mut self.due);
        }
    }
}

/// Fires what is due of a seat's timers, ours or another's.
fn fire_timers(timers: &Timers, processor: &Processor, due: &mut Due) {
    let now = timers::now();
    loop {
        let more = timers.fire(now, due);
        see_to(processor, due);
        if !more {
            break;
        }
    }
}

/// Wakes what was claimed, through our own processor, and calls the timers that want it.
fn see_to(processor: &Processor, due: &mut Due) {
    for wake in due.woken.drain(..) {
        match wake.into_goroutine() {
            Ok(g) if std::ptr::eq(g.shared(), std::sync::Arc::as_ptr(&processor.shared)) => processor.ready(g),
            Ok(g) => crate::ready::ready(g),
            Err(other) => other.wake(),
        }
    }
    for timer in due.called.drain(..) {
        timer.call(processor);
    }
}
