//! The right to run goroutines and all that comes with it: queues, caches, counters of one worker.
//!
//! Owned by one worker thread; reached from the goroutine that runs on it through `current::processor`. So
//! everything here is single-threaded, in cells; what other threads may touch is in the `Seat`.
//!
//! * **R1.** Only the owning thread touches a `Processor`, and no borrow into it lives over a suspension.
//! * **R2.** `bound` holds started pinned goroutines, whose home is this seat; `queue` only such as may run anywhere,
//!   isolated or unstarted; the next slot either.
//! * **R3.** The worker's loop calls the methods here with any block loaded that it owns. Those that could touch a
//!   thread-local (a queue that is resized, a lock, an allocation) are not inlined (F2 in `tls`).

use crate::base::bias::Owner;
use crate::config::ThreadLocals;
use crate::goroutine::block::{Above, Goroutine, Ref};
use crate::goroutine::current::{self, ProcessorHead};
use crate::goroutine::runtime_head::STOPPING;
use crate::goroutine::slab::BlockList;
use crate::memory::{self, StackClass, StackError};
use crate::processor::abort_shields::Doubts;
use crate::processor::shared::Shared;
use crate::processor::wake_backoff::Eagerness;
use crate::queue::run_queue::{RunQueue, STREAK};
use crate::seat::seats::Seat;
use crate::seat::turn_length::Gauge;
use crate::stack::cache::{self, WarmCache};
use crate::stack::coroutine::{Carrier, CarrierList};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Ids taken from the process-wide counter at a time.
const ID_BATCH: u64 = 64;
/// Stack reservations taken from the arena at a time, and kept at most.
const RESERVE_BATCH: usize = 64;
/// How often in a row the next slot may go first: a pair that hands over to each other shares the queue's time.
const NEXT_STREAK: u32 = 64;

/// `repr(C)`: a goroutine's pointer to the head is one to the whole ([`Processor::current`]).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Processor {
    pub(crate) head: ProcessorHead,
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    seat: NonNull<Seat>,
    /// Started pinned goroutines whose home this is.
    pub(crate) pinned: Cell<usize>,
    /// Goroutines that have locked this worker's thread: one, or several pinned ones.
    pub(crate) lockers: Cell<usize>,
    /// A goroutine took the thread along: it is of no use to others any more.
    pub(crate) spoilt: Cell<bool>,
    /// A goroutine has forked on this thread (R5 in `fork`).
    pub(crate) has_forked: Cell<bool>,
    /// For tests: what may go elsewhere goes by way of the injector.
    pub(crate) always_migrate: bool,
    pub(crate) queue: RunQueue,
    bound: RefCell<VecDeque<Ref>>,
    streak: Cell<u32>,
    turn: Cell<bool>,
    /// The turn that last spawned something (`Seat::rounds`), and how much.
    spawns: Cell<(u32, u32)>,
    /// The goroutine that spawned. Only compared: it may be another goroutine by now.
    spawner: Cell<*const Goroutine>,
    /// The turn that last polled in vain, and how often.
    polls: Cell<(u32, u32)>,
    eagerness: Eagerness,
    pub(crate) gauge: Gauge,
    pub(crate) doubts: Doubts,
    /// Free ones of the default size: pinned, isolated.
    warm: [WarmCache; 2],
    /// Carriers that a library loaded meanwhile has made useless, until they can be released.
    outdated: CarrierList,
    ids: Cell<(u64, u64)>,
    reserved: Cell<usize>,
    rng: Cell<u64>,
}

impl Processor {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, queue: RunQueue) -> Processor {
        let seat = NonNull::from(shared.seats.get(index));
        let warm = [WarmCache::new(&shared.config), WarmCache::new(&shared.config)];
        Processor {
            head: ProcessorHead { blocks: BlockList::new(), owner: Owner::enrol() },
            always_migrate: shared.config.always_migrate,
            shared,
            index,
            seat,
            pinned: Cell::new(0),
            lockers: Cell::new(0),
            spoilt: Cell::new(false),
            has_forked: Cell::new(false),
            queue,
            bound: RefCell::new(VecDeque::new()),
            streak: Cell::new(0),
            turn: Cell::new(false),
            spawns: Cell::new((0, 0)),
            spawner: Cell::new(ptr::null()),
            polls: Cell::new((0, 0)),
            eagerness: Eagerness::default(),
            gauge: Gauge::new(),
            doubts: Doubts::default(),
            warm,
            outdated: CarrierList::new(),
            ids: Cell::new((0, 0)),
            reserved: Cell::new(0),
            rng: Cell::new(0x9E37_79B9_7F4A_7C15 ^ ((index as u64 + 1) << 17)),
        }
    }

    /// The processor that the current goroutine runs on. Not valid over a suspension.
    #[inline]
    pub(crate) fn current<'a>() -> Option<&'a Processor> {
        current::goroutine().map(Processor::of)
    }

    /// The processor of a goroutine that runs on the calling thread.
    #[inline]
    pub(crate) fn of<'a>(g: &Goroutine) -> &'a Processor {
        // SAFETY: T1: it runs; the worker sets `processor`, to a whole one, before each resume and outlives the turn.
        unsafe { &*g.processor.get().cast::<Processor>() }
    }

    /// The pointer that a goroutine has to it while it runs here.
    #[inline]
    pub(crate) fn as_above(&self) -> *const Above {
        ptr::from_ref(self).cast()
    }

    #[inline]
    pub(crate) fn seat_ref(&self) -> &Seat {
        // SAFETY: S3: seats stay where they are, as long as `shared`, which we hold.
        unsafe { self.seat.as_ref() }
    }

    #[inline]
    pub(crate) fn seat(&self) -> *const Above {
        self.seat.as_ptr().cast()
    }

    /// Returns true if its worker runs nothing but what can go nowhere else; then another one was brought in for the rest.
    #[inline]
    pub(crate) fn is_aside(&self) -> bool {
        self.lockers.get() > 0 || self.spoilt.get()
    }

    /// Makes `g` runnable: it goes first on this processor, while its data is hot; a started pinned one goes home.
    pub(crate) fn ready(&self, g: Ref) {
        let home = g.home.get();
        if !home.is_null() && !std::ptr::eq(home, self.seat()) {
            // SAFETY: a home is a seat of this runtime, which we hold.
            return unsafe { &*home.cast::<Seat>() }.send_home(g);
        }
        if self.is_aside() || self.always_migrate {
            return self.push_back(g);
        }
        if let Some(displaced) = self.seat_ref().next.put(g) {
            self.push_back(displaced);
        }
    }

    /// As `ready`, but `g` goes last.
    pub(crate) fn ready_last(&self, g: Ref) {
        let home = g.home.get();
        if home.is_null() || std::ptr::eq(home, self.seat()) {
            self.push_back(g);
        } else {
            // SAFETY: as in `ready`.
            unsafe { &*home.cast::<Seat>() }.send_home(g);
        }
    }

    /// Puts a goroutine that is this seat's, or may run anywhere, at the end of its queue.
    #[inline(never)]
    pub(crate) fn push_back(&self, g: Ref) {
        if g.home.get().is_null() {
            if self.is_aside() || self.always_migrate {
                return self.shared.inject(g);
            }
            self.queue.push_ready(g);
            if self.shared.idle.seems_asleep() {
                self.pushed();
            }
        } else {
            self.bound.borrow_mut().push_back(g);
        }
    }

    /// As `push_back`, and wakes nobody.
    #[cold]
    #[inline(never)]
    pub(crate) fn push_back_quietly(&self, g: Ref) {
        match g.home.get().is_null() {
            true if self.is_aside() || self.always_migrate => self.shared.inject(g),
            true => self.queue.push_ready(g),
            false => self.bound.borrow_mut().push_back(g),
        }
    }

    /// Puts a goroutine that was spawned here where it has its first turn soon.
    #[inline]
    pub(crate) fn push_unbegun(&self, g: Ref) {
        if self.is_aside() || self.always_migrate {
            return self.shared.inject(g);
        }
        self.queue.push_unbegun(g);
        if self.shared.idle.seems_asleep() {
            self.pushed();
        }
    }

    /// Counts one operation of the running goroutine's that would have had to wait and did not. How many there were in this
    /// turn.
    #[inline]
    pub(crate) fn count_poll(&self) -> u32 {
        // Relaxed: our own worker's count.
        let now = self.seat_ref().rounds.load(Ordering::Relaxed);
        let (turn, before) = self.polls.get();
        let polls = if turn == now { before.saturating_add(1) } else { 1 };
        self.polls.set((now, polls));
        polls
    }

    /// Returns true if somebody is ready in one of the local queues.
    pub(crate) fn has_ready(&self) -> bool {
        !self.seat_ref().next.is_empty()
            || self.queue.ready() > 0
            || self.queue.has_unbegun()
            || !self.bound.borrow().is_empty()
    }

    /// Counts one spawn of the running goroutine's. Returns true if it should let what was spawned go first: when one turn has
    /// spawned [`STREAK`] goroutines and as many wait. So they are run while they are in the cache, and a million short
    /// ones never exist at once.
    #[inline]
    pub(crate) fn spawns_ahead(&self, g: &Goroutine) -> bool {
        // Relaxed: our own worker's count.
        let now = self.seat_ref().rounds.load(Ordering::Relaxed);
        let (turn, before) = self.spawns.get();
        let spawned = if turn == now { before + 1 } else { 1 };
        self.spawns.set((now, spawned));
        if spawned == 1 {
            let same = ptr::eq(self.spawner.replace(g), g);
            if !same {
                self.seat_ref().grain.spawns_from_loop(false);
            }
        } else if spawned == STREAK {
            self.seat_ref().grain.spawns_from_loop(true);
        }
        spawned >= STREAK && self.queue.unbegun() >= STREAK as usize
    }

    /// Somebody sleeps, and something is in the own queue that others may take: if it is worth it.
    #[inline(never)]
    fn pushed(&self) {
        // Whoever is stuck in a goroutine that spawns and wakes has others to run them.
        self.seat_ref().mark();
        let (unbegun, ready) = (self.queue.unbegun(), self.queue.ready());
        if self.seat_ref().grain.is_worth_with(unbegun, ready)
            && self.eagerness.wakes(self.shared.idle.vain(), unbegun + ready)
        {
            self.shared.notify();
        }
    }

    /// Returns true if there are ready goroutines here, and their turns will be over in microseconds, as far as is known.
    pub(crate) fn has_fine_ones(&self) -> bool {
        let ready = self.queue.ready() + self.bound.borrow().len();
        ready > 0 && !self.seat_ref().grain.is_worth(ready)
    }

    /// The next goroutine that needs no looking elsewhere: the next slot, then the queues (Q1).
    #[inline]
    pub(crate) fn pop(&self) -> Option<Ref> {
        if let Some(g) = self.seat_ref().next.take() {
            if self.streak.get() < NEXT_STREAK {
                self.streak.set(self.streak.get() + 1);
                return Some(g);
            }
            self.push_back(g);
        }
        self.streak.set(0);
        self.pop_queues()
    }

    /// As `ready`, of a goroutine of this runtime, and `pop` after it: mostly that same one, without the way through the next
    /// slot.
    #[inline]
    pub(crate) fn pop_after(&self, g: Ref) -> Option<Ref> {
        let home = g.home.get();
        let stays = home.is_null() || std::ptr::eq(home, self.seat());
        if !stays || self.is_aside() || self.always_migrate || self.streak.get() >= NEXT_STREAK {
            self.ready(g);
            return self.pop();
        }
        if let Some(displaced) = self.seat_ref().next.take() {
            self.push_back(displaced);
        }
        self.streak.set(self.streak.get() + 1);
        Some(g)
    }

    #[inline(never)]
    fn pop_queues(&self) -> Option<Ref> {
        if self.queue.has_unbegun()
            && let Some(g) = self.queue.pop_unbegun()
        {
            return Some(g);
        }
        let begun = if self.bound.borrow().is_empty() { self.queue.pop_ready() } else { self.pop_begun() };
        begun.or_else(|| self.queue.pop_unbegun())
    }

    /// By turns from the two queues of those that have begun.
    fn pop_begun(&self) -> Option<Ref> {
        let turn = !self.turn.get();
        self.turn.set(turn);
        let (ready, bound) = (|| self.queue.pop_ready(), || self.pop_bound());
        if turn { bound().or_else(ready) } else { ready().or_else(bound) }
    }

    fn pop_bound(&self) -> Option<Ref> {
        self.bound.borrow_mut().pop_front()
    }

    /// Gives what others may run to the others.
    pub(crate) fn give_away(&self) {
        while let Some(g) = self.seat_ref().next.take() {
            match g.home.get().is_null() {
                true => self.shared.inject(g),
                false => self.bound.borrow_mut().push_back(g),
            }
        }
        while let Some(g) = self.queue.pop_any() {
            self.shared.inject(g);
        }
    }

    pub(crate) fn empty_inbox(&self) {
        let mut bound = None;
        self.seat_ref().inbox.take_all(|g| bound.get_or_insert_with(|| self.bound.borrow_mut()).push_back(g));
    }

    /// A pseudo-random number below `n`: xorshift, for the order of victims.
    pub(crate) fn random(&self, n: usize) -> usize {
        let mut x = self.rng.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.rng.set(x);
        ((u128::from(x) * n as u128) >> 64) as usize
    }

    pub(crate) fn take_id(&self) -> u64 {
        let (mut next, mut end) = self.ids.get();
        if next == end {
            next = current::take_ids(ID_BATCH);
            end = next + ID_BATCH;
        }
        self.ids.set((next + 1, end));
        next
    }

    /// Makes sure that a stack of `class` can be had when the goroutine first runs.
    pub(crate) fn reserve_stack(&self, class: StackClass) -> Result<(), StackError> {
        if class != self.shared.class {
            return memory::reserve(class, 1);
        }
        if self.reserved.get() == 0 {
            if memory::reserve(class, RESERVE_BATCH).is_err() {
                return memory::reserve(class, 1);
            }
            self.reserved.set(RESERVE_BATCH);
        }
        self.reserved.set(self.reserved.get() - 1);
        Ok(())
    }

    /// As [`Processor::reserve_stack`], if a reservation is at hand: whether there was one.
    #[inline]
    pub(crate) fn reserve_at_hand(&self, class: StackClass) -> bool {
        let reserved = self.reserved.get();
        let at_hand = reserved > 0 && class == self.shared.class;
        if at_hand {
            self.reserved.set(reserved - 1);
        }
        at_hand
    }

    pub(crate) fn unreserve_stack(&self, class: StackClass) {
        if class != self.shared.class || self.reserved.get() >= 2 * RESERVE_BATCH {
            return memory::unreserve(class, 1);
        }
        self.reserved.set(self.reserved.get() + 1);
    }

    /// A carrier for a goroutine that has a reservation.
    pub(crate) fn take_carrier(&self, class: StackClass, mode: ThreadLocals) -> Result<NonNull<Carrier>, StackError> {
        match self.take_warm(class, mode) {
            Some(carrier) => {
                // The goroutine has a reservation, and so had the carrier: one is free again.
                self.unreserve_stack(class);
                Ok(carrier)
            }
            None => Carrier::create(class, mode, self.shared.body),
        }
    }

    /// As [`Processor::take_carrier`], if the warmest will do. Touches no thread-local (R3).
    #[inline]
    pub(crate) fn take_warmest(&self, class: StackClass, mode: ThreadLocals) -> Option<NonNull<Carrier>> {
        if class != self.shared.class || self.reserved.get() >= 2 * RESERVE_BATCH {
            return None;
        }
        let carrier = self.warm(mode).take_warmest()?;
        // SAFETY: W1: it was on our list.
        if !unsafe { carrier.as_ref() }.is_reusable() {
            self.outdated.push(carrier);
            return None;
        }
        // As in `take_carrier`.
        self.reserved.set(self.reserved.get() + 1);
        Some(carrier)
    }

    /// A warm carrier with its reservation, for a goroutine that has none.
    #[inline]
    pub(crate) fn take_warm(&self, class: StackClass, mode: ThreadLocals) -> Option<NonNull<Carrier>> {
        if class != self.shared.class {
            return None;
        }
        loop {
            let carrier = self.warm(mode).take(mode, &self.shared.warm)?;
            // SAFETY: W1: it was on our list.
            if unsafe { carrier.as_ref() }.is_reusable() {
                return Some(carrier);
            }
            self.outdated.push(carrier);
        }
    }

    /// Releases what can't be used again. At home: one of their blocks may have been loaded still.
    #[inline]
    pub(crate) fn release_outdated(&self) {
        if self.outdated.len() > 0 {
            cache::release(&self.outdated);
        }
    }

    #[inline]
    fn warm(&self, mode: ThreadLocals) -> &WarmCache {
        &self.warm[usize::from(mode == ThreadLocals::Isolated)]
    }

    /// Returns true if [`Processor::give_carrier`] would keep it.
    pub(crate) fn keeps(&self, carrier: &Carrier) -> bool {
        carrier.class() == self.shared.class
            && self.warm(carrier.mode()).has_room(&self.shared.warm)
            && carrier.is_reusable()
    }

    /// A carrier whose goroutine has ended, with the goroutine's reservation: a cached carrier keeps it, so that the
    /// slots in use are never more than those reserved. To keep it, [`Processor::keeps`] must have said so; its block is
    /// loaded only then.
    pub(crate) fn give_carrier(&self, carrier: NonNull<Carrier>, keep: bool) {
        // SAFETY: K1: the worker hands it to us.
        let this = unsafe { carrier.as_ref() };
        if keep {
            self.warm(this.mode()).give(carrier, this.mode(), &self.shared.warm);
        } else {
            let class = this.class();
            // SAFETY: K3: it suspended with Exit. Pages go back: it is beyond what is kept warm.
            unsafe { Carrier::release(carrier, false) };
            self.unreserve_stack(class);
        }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.head.owner.inspect(|owner| owner.leave());
        cache::release(&self.outdated);
        self.warm.iter().for_each(WarmCache::release);
        if self.shared.phase() == STOPPING {
            // By each worker as the last thing: so nothing stays that one of them has put there.
            self.shared.warm.release_all();
        }

        memory::unreserve(self.shared.class, self.reserved.get());
    }
}
