//! The worker's loop: find → resume → settle, and sleep when there is nothing to find.
//!
//! One per OS thread, started by `scheduler`. Where work is sought, in which order, and why:
//!
//! 1. every 61 rounds (a prime, as in Go's `schedule`): timers, the inbox and the injector first, so that a full
//!    local queue can't starve them;
//! 2. the next slot and the two local queues (`Processor::pop`): no atomics shared with others;
//! 3. the inbox, timers that are due, the injector, the other seats' queues and overdue timers: *searching*;
//! 4. sleep until woken, or until the earliest timer of this seat or of one that nobody looks after.
//!
//! Between two turns a worker also sees whether it was found stuck meanwhile, and whether it is one too many (`spares`).

use crate::carrier::{Carrier, Suspended};
use crate::config::ThreadLocals;
use crate::current;
use crate::goroutine::{ABORT, Ref};
use crate::isolated::{self, Loaded};
use crate::parker::{Commit, Committed};
use crate::processor::Processor;
use crate::seats::Seat;
use crate::shared::STOPPING;
use crate::spares::Waited;
use crate::timers::{self, Due, NEVER, Timers};
use crate::unwind::{AbortOnUnwind, fatal};
use crossbeam_deque::{Injector, Steal, Worker as Deque};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

const FAIRNESS: u32 = 61;
/// Turns of a spin loop before a lone goroutine is stolen: about a microsecond.
const PATIENCE: u32 = 32;

pub(crate) struct Worker {
    processor: Processor,
    round: u32,
    due: Due,
    loaded: Loaded,
    /// A goroutine took the thread along.
    spoilt: bool,
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
        Worker { processor, round: 0, due: Due::default(), loaded, spoilt: false }
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
                    let may_stay = !self.round.is_multiple_of(FAIRNESS) && !self.processor.always_migrate;
                    if left.why == Suspended::Yield && may_stay {
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
        // Release: the making of the block, for those who look at it (Acquire in `monitor` and `metrics`).
        self.seat().running.store(g.as_ptr().cast_mut(), Ordering::Release);
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
                if g.home.get().is_null() {
                    // From here on it stays with this worker (K2).
                    g.home.set(self.processor.seat());
                    self.processor.pinned.set(self.processor.pinned.get() + 1);
                }
                self.loaded.home()
            }
        };
        (carrier, base)
    }

    #[inline(never)]
    fn first_turn(&self, g: Ref) -> NonNull<Carrier> {
        g.prefetch();
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
                if g.requests.load(Ordering::SeqCst) & ABORT != 0 && cfg!(panic = "unwind") {
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
        let keep = self.processor.keeps(unsafe { &*g.carrier.get() });
        if !keep {
            self.go_home();
        }
        if g.mode.get() == ThreadLocals::Pinned {
            self.processor.pinned.set(self.processor.pinned.get() - 1);
        }
        if self.processor.locked.get() == Some(g) {
            self.processor.locked.set(None);
            self.processor.lock_depth.set(0);
            self.spoilt = true;
        }
        crate::exit::retire(&self.processor, g, keep);
    }

    /// The next goroutine from the local queues, if it is not time to look elsewhere first.
    #[inline]
    fn find_here(&mut self) -> Option<Ref> {
        self.round = self.round.wrapping_add(1);
        // Relaxed: the monitor compares two looks.
        self.seat().rounds.store(self.round, Ordering::Relaxed);
        if self.round.is_multiple_of(FAIRNESS) {
            return None;
        }
        self.processor.pop().and_then(|g| self.unless_held_back(g))
    }

    /// V3 in `spares`.
    #[inline]
    fn unless_held_back(&self, g: Ref) -> Option<Ref> {
        let shared = &self.processor.shared;
        if g.carrier.get().is_null() && shared.spares.are_scarce() {
            self.hold_back(g);
            return None;
        }
        Some(g)
    }

    #[cold]
    #[inline(never)]
    fn hold_back(&self, g: Ref) {
        self.processor.shared.held.push(g);
    }

    /// The next goroutine to run; `None` when the thread is to end. At home.
    #[inline(never)]
    fn find(&mut self) -> Option<Ref> {
        // Relaxed: the monitor goes by `running` while a goroutine runs, and there is none.
        self.seat().running.store(std::ptr::null_mut(), Ordering::Relaxed);
        self.processor.release_outdated();
        if self.processor.locked.get().is_some() {
            return self.wait_for_locked();
        }
        let alone = self.processor.pinned.get() == 0;
        if self.spoilt && alone {
            self.leave();
            return None;
        }
        let shared = &self.processor.shared;
        shared.spares.come_back(self.seat());
        if alone && shared.spares.take_excess() && !self.step_aside() {
            return None;
        }
        if self.round.is_multiple_of(FAIRNESS) {
            self.fire_own_timers();
            self.processor.empty_inbox();
            if let Steal::Success(g) = self.processor.shared.injector.steal()
                && let Some(g) = self.unless_held_back(g)
            {
                return Some(g);
            }
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

    /// The only goroutine of this worker's thread waits: so does the thread.
    #[cold]
    fn wait_for_locked(&mut self) -> Option<Ref> {
        loop {
            if let Some(g) = self.look_at_home() {
                return Some(g);
            }
            self.seat().announce_sleep(true);
            if self.processor.shared.phase() != STOPPING && self.seat().inbox.is_empty() {
                sleep_until(self.seat().timers.earliest());
            }
            self.seat().announce_sleep(false);
            if self.processor.shared.phase() == STOPPING {
                return None;
            }
        }
    }

    /// Retires: gives away what it has, and waits in line. Whether it is to go on.
    #[cold]
    fn step_aside(&mut self) -> bool {
        self.processor.give_away();
        let shared = &self.processor.shared;
        shared.spares.set_aside(self.seat());
        shared.spares.count_off();
        if self.seat().timers.earliest() != NEVER {
            // Somebody else has to wake for them.
            shared.notify();
        }
        match shared.spares.wait(self.processor.index, || shared.phase() == STOPPING) {
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
        // Relaxed: the monitor's note; as a locked goroutine's, the seat is unattended already.
        self.seat().replaced.store(false, Ordering::Relaxed);
        self.hand_back_seat();
    }

    fn hand_back_seat(&mut self) {
        let deque = std::mem::replace(&mut self.processor.deque, Deque::new_fifo());
        self.processor.shared.spares.leave(self.processor.index, deque);
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
            if !stopping && !self.anything_to_steal() && self.seat().inbox.is_empty() {
                sleep_until(self.earliest_timer());
                woken = true;
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

    /// The earliest timer that this worker might be the first to see: its own, and those of seats whose worker is busy,
    /// stuck or gone.
    fn earliest_timer(&self) -> u64 {
        let mine = self.processor.seat();
        let seats = self.processor.shared.seats.iter().filter(|seat| std::ptr::eq(*seat, mine) || !seat.is_asleep());
        seats.map(|seat| seat.timers.earliest()).min().unwrap_or(NEVER)
    }

    fn anything_to_steal(&self) -> bool {
        let shared = &self.processor.shared;
        !shared.injector.is_empty()
            || (!shared.held.is_empty() && !shared.spares.are_scarce())
            || shared.seats.iter().any(Seat::has_work)
    }

    /// The injector, then the other seats, from a random one on.
    fn look_around(&mut self) -> Option<Ref> {
        let shared = self.processor.shared.clone();
        let mine = self.processor.seat();
        let batch = |from: &Injector<Ref>| until_sure(|| from.steal_batch_and_pop(&self.processor.deque));
        if let Some(g) = batch(&shared.injector) {
            return Some(g);
        }
        if !shared.spares.are_scarce()
            && let Some(g) = batch(&shared.held)
        {
            return Some(g);
        }
        let seats = shared.seats.len();
        let start = self.processor.random(seats);
        let others = || {
            let seats = (0..seats).map(|i| shared.seats.get((start + i) % seats));
            seats.filter(|seat| !std::ptr::eq(*seat, mine))
        };
        let mut lone = false;
        for seat in others() {
            // A single goroutine is most often one that its worker is about to run itself.
            if seat.stealer.len() == 1 && !seat.is_unattended() {
                lone = true;
            } else if let Some(g) = until_sure(|| seat.stealer.steal_batch_and_pop(&self.processor.deque)) {
                return Some(g);
            }
            if seat.is_unattended()
                && let Some(g) = seat.next.steal()
            {
                return Some(g);
            }
            if seat.timers.earliest() != NEVER {
                fire_timers(&seat.timers, &self.processor, &mut self.due);
            }
        }
        if lone {
            // About as long as it takes to run a short one, and much less than a wake-up.
            (0..PATIENCE).for_each(|_| std::hint::spin_loop());
            let found =
                others().find_map(|seat| until_sure(|| seat.stealer.steal_batch_and_pop(&self.processor.deque)));
            if found.is_some() {
                return found;
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

/// Wakes what was claimed, through our own processor and in order, as [`Wake::wake_all`](crate::Wake::wake_all); and calls
/// the timers that want it.
fn see_to(processor: &Processor, due: &mut Due) {
    let mut first = true;
    for wake in due.woken.drain(..) {
        match wake.into_goroutine() {
            Ok(g) if std::ptr::eq(g.shared(), std::sync::Arc::as_ptr(&processor.shared)) => {
                if std::mem::take(&mut first) {
                    processor.ready(g);
                } else {
                    processor.ready_last(g);
                }
            }
            Ok(g) => crate::ready::ready(g),
            Err(other) => unharmed(|| other.wake()),
        }
    }
    for timer in due.called.drain(..) {
        unharmed(|| timer.call(processor));
    }
}

/// A future's waker is a user's code. If it panics, the hook has told of it, and there is nobody here to tell more.
fn unharmed(f: impl FnOnce()) {
    if let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        // Its drop would be a user's code once more.
        std::mem::forget(payload);
    }
}

/// Parks the thread until it is unparked, at most until a time in the timers' nanoseconds.
fn sleep_until(at: u64) {
    if at == NEVER {
        return std::thread::park();
    }
    let now = timers::now();
    if at > now {
        std::thread::park_timeout(Duration::from_nanos(at - now));
    }
}

/// Steals until it is known whether there is something.
fn until_sure(steal: impl Fn() -> Steal<Ref>) -> Option<Ref> {
    loop {
        match steal() {
            Steal::Success(g) => return Some(g),
            Steal::Retry => {}
            Steal::Empty => return None,
        }
    }
}
