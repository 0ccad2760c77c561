//! The right to run goroutines and all that comes with it: queues, caches, counters of one worker.
//!
//! Owned by one worker thread; reached from the goroutine that runs on it through `current::processor`. So
//! everything here is single-threaded, in cells; what other threads may touch is in the `Seat`.
//!
//! * **R1.** Only the owning thread touches a `Processor`, and no borrow into it lives over a suspension.
//! * **R2.** `bound` and `next` hold started goroutines whose home is this seat; `deque` only unstarted ones.

use crate::carrier::{Carrier, CarrierList};
use crate::goroutine::{BlockList, Ref};
use crate::shared::{Seat, Shared};
use crate::stack::{self, StackClass, StackError};
use crossbeam_deque::Worker as Deque;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Ids taken from the process-wide counter at a time.
const ID_BATCH: u64 = 64;
/// Stack reservations taken from the arena at a time, and kept at most.
const RESERVE_BATCH: usize = 64;
/// How often in a row the next slot may go first: a pair that hands over to each other shares the queue's time.
const NEXT_STREAK: u32 = 64;

#[derive(Debug)]
pub(crate) struct Processor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) deque: Deque<Ref>,
    bound: RefCell<VecDeque<Ref>>,
    /// The goroutine readied last: it goes first, while its data is hot.
    next: Cell<Option<Ref>>,
    streak: Cell<u32>,
    turn: Cell<bool>,
    pub(crate) blocks: BlockList,
    carriers: CarrierList,
    ids: Cell<(u64, u64)>,
    reserved: Cell<usize>,
    rng: Cell<u64>,
}

impl Processor {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, deque: Deque<Ref>) -> Processor {
        Processor {
            shared,
            index,
            deque,
            bound: RefCell::new(VecDeque::new()),
            next: Cell::new(None),
            streak: Cell::new(0),
            turn: Cell::new(false),
            blocks: BlockList::new(),
            carriers: CarrierList::new(),
            ids: Cell::new((0, 0)),
            reserved: Cell::new(0),
            rng: Cell::new(0x9E37_79B9_7F4A_7C15 ^ ((index as u64 + 1) << 17)),
        }
    }

    pub(crate) fn seat_ref(&self) -> &Seat {
        &self.shared.seats[self.index]
    }

    pub(crate) fn seat(&self) -> *const Seat {
        self.seat_ref()
    }

    /// Makes `g` runnable, on this worker's thread.
    pub(crate) fn ready(&self, g: Ref) {
        let home = g.home.get();
        if home.is_null() {
            self.deque.push(g);
            self.shared.notify();
        } else if std::ptr::eq(home, self.seat()) {
            if let Some(displaced) = self.next.replace(Some(g)) {
                self.bound.borrow_mut().push_back(displaced);
            }
        } else {
            // SAFETY: a home is a seat of this runtime, which we hold.
            unsafe { &*home }.send_home(g);
        }
    }

    /// Puts a goroutine of this seat at the end of its queue.
    pub(crate) fn push_bound(&self, g: Ref) {
        self.bound.borrow_mut().push_back(g);
    }

    /// The next goroutine that needs no looking elsewhere: the next slot, then the two queues in turn.
    pub(crate) fn pop(&self) -> Option<Ref> {
        if let Some(g) = self.next.take() {
            if self.streak.get() < NEXT_STREAK {
                self.streak.set(self.streak.get() + 1);
                return Some(g);
            }
            self.bound.borrow_mut().push_back(g);
        }
        self.streak.set(0);
        let turn = !self.turn.get();
        self.turn.set(turn);
        if turn { self.pop_bound().or_else(|| self.deque.pop()) } else { self.deque.pop().or_else(|| self.pop_bound()) }
    }

    fn pop_bound(&self) -> Option<Ref> {
        self.bound.borrow_mut().pop_front()
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
            next = crate::current::take_ids(ID_BATCH);
            end = next + ID_BATCH;
        }
        self.ids.set((next + 1, end));
        next
    }

    /// Makes sure that a stack of `class` can be had when the goroutine first runs.
    pub(crate) fn reserve_stack(&self, class: StackClass) -> Result<(), StackError> {
        if class != self.shared.class {
            return stack::reserve(class, 1);
        }
        if self.reserved.get() == 0 {
            if stack::reserve(class, RESERVE_BATCH).is_err() {
                return stack::reserve(class, 1);
            }
            self.reserved.set(RESERVE_BATCH);
        }
        self.reserved.set(self.reserved.get() - 1);
        Ok(())
    }

    pub(crate) fn unreserve_stack(&self, class: StackClass) {
        if class != self.shared.class || self.reserved.get() >= 2 * RESERVE_BATCH {
            return stack::unreserve(class, 1);
        }
        self.reserved.set(self.reserved.get() + 1);
    }

    /// A carrier for a goroutine that has a reservation.
    pub(crate) fn take_carrier(&self, class: StackClass) -> Result<NonNull<Carrier>, StackError> {
        if class == self.shared.class
            && let Some(carrier) = self.carriers.pop()
        {
            // The goroutine has a reservation, and so had the carrier: one is free again.
            self.unreserve_stack(class);
            return Ok(carrier);
        }
        Carrier::create(class)
    }

    /// A carrier whose goroutine has ended, with the goroutine's reservation: a cached carrier keeps it, so that the
    /// slots in use are never more than those reserved.
    pub(crate) fn give_carrier(&self, carrier: NonNull<Carrier>) {
        // SAFETY: K1: the worker hands it to us.
        let class = unsafe { carrier.as_ref() }.class();
        if class == self.shared.class && self.carriers.len() < self.shared.config.warm_stacks {
            self.carriers.push(carrier);
        } else {
            // SAFETY: K3: it suspended with Exit. Pages go back: it is beyond what is kept warm.
            unsafe { Carrier::release(carrier, false) };
            self.unreserve_stack(class);
        }
    }

    /// The monitor wants the running goroutine to yield; asked once per request.
    #[inline]
    pub(crate) fn take_yield_request(&self) -> bool {
        let flag = &self.seat_ref().yield_requested;
        // Relaxed, both: a hint, nothing is published with it.
        flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        while let Some(carrier) = self.carriers.pop() {
            // SAFETY: K1, K3: free.
            unsafe { Carrier::release(carrier, false) };
            stack::unreserve(self.shared.class, 1);
        }
        stack::unreserve(self.shared.class, self.reserved.get());
    }
}
