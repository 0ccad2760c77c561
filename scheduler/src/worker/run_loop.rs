//! The worker's loop: find → resume → settle, and sleep when there is nothing to find.
//!
//! One per OS thread, started by `scheduler`. Where work is sought, in which order, and why:
//!
//! 1. every half millisecond, or 61 rounds where those take less (`poll_interval`): timers, the inbox, what is on seats that nobody
//!    looks after, and the injector first, so that a full local queue can't starve them;
//! 2. the next slot and the two local queues (`Processor::pop`): no atomics shared with others;
//! 3. the inbox, some of the timers that are due, the injector, the other seats' queues and overdue timers: *searching*;
//! 4. sleep until woken, or until the earliest timer of this seat or of one that nobody looks after.
//!
//! Between two turns a worker also sees whether it was found stuck meanwhile, and whether it is one too many (`spares`).

use crate::base::errno::keeping_errno;
use crate::base::float_control::FloatControl;
use crate::base::unwind::{AbortOnUnwind, fatal};
use crate::claim::claim_word::{Commit, Committed};
use crate::config::ThreadLocals;
use crate::goroutine::block::Ref;
use crate::goroutine::current;
use crate::goroutine::suspend::set_locked;
use crate::memory;
use crate::processor::ready::ready_by;
use crate::stack::coroutine::{Carrier, Suspended};
use crate::worker::search;
use crate::worker::state::Worker;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

/// A goroutine that has left its stack, and is still the worker's.
#[derive(Clone, Copy)]
struct Left {
    g: Ref,
    why: Suspended,
}

impl Worker {
    /// Until the runtime stops.
    pub(crate) fn run(mut self) {
        let bomb = AbortOnUnwind("a panic in the scheduler");
        let _alt_stack = crate::memory::ensure_alt_stack();
        FloatControl::set_default();
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
        let mut next = self.find(false);
        while let Some(g) = next {
            let mut left = self.turn(g);
            next = loop {
                let found = if left.why == Suspended::Exit { self.find_after_end(left.g) } else { self.find_here() };
                let Some(next) = found else {
                    let may_stay = !self.seat().look_is_due(self.round) && !self.processor.always_migrate;
                    if left.why == Suspended::Yield && may_stay {
                        // Nobody to yield to.
                        left = self.turn(left.g);
                        continue;
                    }
                    self.go_home();
                    self.let_go(left);
                    break self.find(left.why == Suspended::Asked);
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
            ThreadLocals::Isolated => unsafe { Carrier::resume(carrier, g.as_ptr().cast()) },
            ThreadLocals::Pinned => {
                // SAFETY: as above; the thread's own block is loaded.
                let why = current::with_goroutine(&g, || unsafe { Carrier::resume(carrier, g.as_ptr().cast()) });
                // D3 in `abort_shields`.
                if std::thread::panicking() != self.seat().is_in_panic() {
                    self.note_panic();
                }
                why
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn note_panic(&self) {
        self.seat().set_in_panic(std::thread::panicking());
    }

    /// A stack for `g`, and the block to load for it.
    #[inline]
    fn prepare(&self, g: Ref) -> (NonNull<Carrier>, usize) {
        let carrier = match NonNull::new(g.carrier.get()) {
            Some(carrier) => carrier,
            None => self.first_turn(g),
        };
        g.processor.set(self.processor.as_above());
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

    #[inline]
    fn first_turn(&self, g: Ref) -> NonNull<Carrier> {
        g.prefetch();
        let Some(carrier) = self.processor.take_warmest(g.class.get(), g.mode.get()) else {
            return self.first_turn_cold(g);
        };
        g.carrier.set(carrier.as_ptr());
        carrier
    }

    #[cold]
    #[inline(never)]
    fn first_turn_cold(&self, g: Ref) -> NonNull<Carrier> {
        // The thread-locals of the goroutine that has just left may be loaded, its `errno` among them; and what is asked of
        // the kernel here, down to waiting for the lock around free stacks, may fail on the way to success.
        match keeping_errno(|| self.processor.take_carrier(g.class.get(), g.mode.get())) {
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
            // Called by the monitor, which wakes the workers that are needed: most often nothing waits, and it goes on.
            Suspended::Asked => self.processor.push_back_quietly(left.g),
            Suspended::Park => self.settle(left.g),
        }
    }

    /// The commit step: the goroutine has left its stack, now it may be claimed for running.
    #[inline]
    fn settle(&mut self, g: Ref) {
        let (commit, asked) = g.commit();
        if let Some(wait) = asked {
            self.abort(g, wait);
        } else if commit == Commit::Claimed {
            // Claimed while it was leaving (P2): it is still ours, and goes on.
            self.processor.ready(g);
        }
    }

    #[cold]
    #[inline(never)]
    fn abort(&mut self, g: Ref, wait: Committed) {
        // SAFETY: blocks are type-stable; it is this goroutine's parker.
        let wake = unsafe { wait.abort(NonNull::new_unchecked(g.as_ptr().cast_mut()).cast()) };
        self.due.woken.extend(wake);
        search::see_to(&self.processor, &mut self.due);
    }

    /// The goroutine has ended. Its carrier stays here, with its block loaded, unless it can't be used again. Returns who is
    /// to be woken.
    fn retire(&mut self, g: Ref) -> Option<Ref> {
        // SAFETY: K1: it ran, so it has a carrier, and that is ours now.
        let keep = self.processor.keeps(unsafe { &*g.carrier.get() });
        if !keep {
            self.go_home();
        }
        if g.mode.get() == ThreadLocals::Pinned {
            self.processor.pinned.set(self.processor.pinned.get() - 1);
        }
        if g.locks.replace(0) > 0 {
            set_locked(&g, false);
            self.processor.lockers.set(self.processor.lockers.get() - 1);
            self.processor.spoilt.set(true);
        }
        crate::worker::exit::retire(&self.processor, g, keep)
    }

    /// The next goroutine from the local queues, if it is not time to look elsewhere first.
    #[inline]
    fn find_here(&mut self) -> Option<Ref> {
        if self.begin_round() {
            return None;
        }
        self.processor.pop().and_then(|g| self.unless_held_back(g))
    }

    /// The same after a goroutine has ended; who waited for that is made ready before. Not inlined: a yield pays for each
    /// register that `turns` needs.
    #[inline(never)]
    fn find_after_end(&mut self, ended: Ref) -> Option<Ref> {
        let Some(joiner) = self.retire(ended) else { return self.find_here() };
        let look = self.begin_round();
        let processor = &self.processor;
        let found = if !look && processor.shared.runs(&joiner) {
            processor.pop_after(joiner)
        } else {
            ready_by(processor, joiner);
            if look { None } else { processor.pop() }
        };
        found.and_then(|g| self.unless_held_back(g))
    }

    /// Returns true if it is time to look beyond the local queues.
    #[inline]
    fn begin_round(&mut self) -> bool {
        self.round = self.round.wrapping_add(1);
        // Relaxed: the monitor compares two looks.
        self.seat().rounds.store(self.round, Ordering::Relaxed);
        self.seat().look_is_due(self.round)
    }

    /// V3 in `spares`, D3 in `abort_shields`.
    #[inline]
    pub(super) fn unless_held_back(&self, g: Ref) -> Option<Ref> {
        if !g.carrier.get().is_null() {
            return Some(g);
        }
        if (self.processor.shared.spares.is_careful() || self.seat().is_in_panic()) && !self.may_begin(g) {
            self.hold_back(g);
            return None;
        }
        Some(g)
    }

    #[cold]
    #[inline(never)]
    fn may_begin(&self, g: Ref) -> bool {
        let shared = &self.processor.shared;
        if g.mode.get() == ThreadLocals::Pinned && !shared.may_begin_at(self.seat()) {
            shared.wake_monitor();
            return false;
        }
        if memory::guards_came_late() && !self.has_stack(g) {
            return false;
        }
        !shared.spares.dozens_are_stuck() || shared.spares.may_begin(&shared.seats, self.seat())
    }

    /// G3 in `memory/guard`: gives the goroutine its stack, if there is one. Not asked again at once if there was none.
    fn has_stack(&self, g: Ref) -> bool {
        let no_stack = &self.processor.shared.no_stack;
        // Relaxed: a note for a while.
        if no_stack.load(Ordering::Relaxed) {
            return false;
        }
        match self.processor.take_carrier(g.class.get(), g.mode.get()) {
            Ok(carrier) => {
                g.carrier.set(carrier.as_ptr());
                true
            }
            Err(_) => {
                // Relaxed: as above.
                no_stack.store(true, Ordering::Relaxed);
                false
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn hold_back(&self, g: Ref) {
        let shared = &self.processor.shared;
        shared.held.push(g);
        // Another one may be free for it. Relaxed: see `has_stack`.
        if !shared.no_stack.load(Ordering::Relaxed) {
            shared.notify_of_held();
        }
    }
}
