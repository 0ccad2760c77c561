//! Deadlines: a 4-ary heap per seat, of timers that live on the waiters' stacks.
//!
//! Inserted and cancelled by `park` (the goroutine), fired by `worker` (its own seat's at every scheduling
//! round that asks the clock, other seats' when they are overdue).
//!
//! * **M1.** A timer's `index` and its place in the heap change only under the lock of the seat's heap.
//! * **M2.** A timer is taken out, by firing or by cancelling, before its owner leaves [`with_timer`].
//! * **M3.** The claim of a fired timer happens under the heap's lock, so once a cancel has the lock no claim of
//!   this timer is under way (P3); the wake-up happens after unlocking.

use crate::current;
use crate::parker::{Parker, Token, Wake};
use crate::seats::Seat;
use crate::shim::Lock;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const OUT: usize = usize::MAX;
/// `Timers::earliest` when there is none.
pub(crate) const NEVER: u64 = u64::MAX;

/// Nanoseconds on the monotonic clock since the process first asked.
pub(crate) fn now() -> u64 {
    nanos(Instant::now())
}

fn nanos(at: Instant) -> u64 {
    static BASE: OnceLock<Instant> = OnceLock::new();
    let base = *BASE.get_or_init(Instant::now);
    // 2^64 ns are 584 years; a deadline beyond is never.
    u64::try_from(at.saturating_duration_since(base).as_nanos()).unwrap_or(NEVER - 1)
}

/// A deadline of one wait, on the waiter's stack.
#[derive(Debug)]
pub(crate) struct Timer {
    at: u64,
    parker: NonNull<Parker>,
    index: Cell<usize>,
    seat: Cell<*const Seat>,
}

impl Timer {
    pub(crate) fn new(parker: NonNull<Parker>, at: Instant) -> Timer {
        Timer { at: nanos(at), parker, index: Cell::new(OUT), seat: Cell::new(ptr::null()) }
    }
}

/// Runs `f` (a suspension) with the timer set on the current processor's seat. `f` does not unwind.
pub(crate) fn with_timer(timer: &Timer, f: impl FnOnce()) {
    let processor = current::processor().expect("only goroutines set timers");
    timer.seat.set(processor.seat());
    processor.seat_ref().timers.insert(timer);
    f();
    // SAFETY: the seat lives as long as the runtime, which has a live goroutine: us.
    unsafe { &*timer.seat.get() }.timers.cancel(timer);
}

/// The timers of one seat.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: Lock<Heap>,
    earliest: AtomicU64,
}

#[derive(Debug, Default)]
struct Heap(Vec<(u64, *const Timer)>);

// SAFETY: M1 and M2: the pointers are followed under the lock only, and while their timers exist.
unsafe impl Send for Heap {}

impl Timers {
    pub(crate) const fn new() -> Timers {
        Timers { heap: Lock::new(Heap(Vec::new())), earliest: AtomicU64::new(NEVER) }
    }

    /// When the next one is due, in `now()`'s nanoseconds; [`NEVER`] if there is none. A snapshot.
    pub(crate) fn earliest(&self) -> u64 {
        // Relaxed: a hint; the owner of the seat reads what it wrote itself, others look again.
        self.earliest.load(Ordering::Relaxed)
    }

    fn insert(&self, timer: &Timer) {
        let mut heap = self.heap.lock();
        heap.push(timer);
        self.publish(&heap);
    }

    fn cancel(&self, timer: &Timer) {
        let mut heap = self.heap.lock();
        let index = timer.index.get();
        if index != OUT {
            heap.remove(index);
            self.publish(&heap);
        }
    }

    /// Claims all that are due at `now`; the caller wakes what it gets.
    pub(crate) fn fire(&self, now: u64, woken: &mut Vec<Wake>) {
        if self.earliest() > now {
            return;
        }
        let mut heap = self.heap.lock();
        while heap.0.first().is_some_and(|(at, _)| *at <= now) {
            let timer = heap.remove(0);
            // SAFETY: M2: it was in the heap until now, and its owner can't leave without our lock; M3 is P3.
            if let Some(wake) = unsafe { Parker::claim((*timer).parker, Token::TIMEOUT) } {
                woken.push(wake);
            }
        }
        self.publish(&heap);
    }

    fn publish(&self, heap: &Heap) {
        let earliest = heap.0.first().map_or(NEVER, |(at, _)| *at);
        // Relaxed: see `earliest`.
        self.earliest.store(earliest, Ordering::Relaxed);
    }
}

impl Heap {
    fn place(&mut self, i: usize, entry: (u64, *const Timer)) {
        self.0[i] = entry;
        // SAFETY: M2, and M1: we have the lock.
        unsafe { &*entry.1 }.index.set(i);
    }

    fn push(&mut self, timer: &Timer) {
        self.0.push((timer.at, timer));
        self.up(self.0.len() - 1);
    }

    fn remove(&mut self, i: usize) -> *const Timer {
        let timer = self.0[i].1;
        let last = self.0.pop().expect("an index into the heap");
        if i < self.0.len() {
            self.place(i, last);
            self.down(i);
            self.up(i);
        }
        // SAFETY: M2, M1.
        unsafe { &*timer }.index.set(OUT);
        timer
    }

    fn up(&mut self, mut i: usize) {
        let entry = self.0[i];
        while i > 0 {
            let parent = (i - 1) / 4;
            if self.0[parent].0 <= entry.0 {
                break;
            }
            self.place(i, self.0[parent]);
            i = parent;
        }
        self.place(i, entry);
    }

    fn down(&mut self, mut i: usize) {
        let entry = self.0[i];
        loop {
            let children = (4 * i + 1)..(4 * i + 5).min(self.0.len());
            let Some(least) = children.min_by_key(|c| self.0[*c].0) else { break };
            if self.0[least].0 >= entry.0 {
                break;
            }
            self.place(i, self.0[least]);
            i = least;
        }
        self.place(i, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::park::Blocker;
    use proptest::prelude::*;

    proptest! {
        /// Against a sorted list, with removals from the middle.
        #[test]
        fn the_heap_gives_the_earliest_first(ops in prop::collection::vec((0u64..50, prop::bool::ANY, 0usize..64), 1..200)) {
            let blocker = Blocker::current();
            let mut timers: Vec<Box<Timer>> = Vec::new();
            let mut heap = Heap::default();
            let mut model: Vec<u64> = Vec::new();
            for (at, insert, which) in ops {
                if insert || timers.is_empty() {
                    let timer = Box::new(Timer { at, parker: blocker.parker(), index: Cell::new(OUT), seat: Cell::new(ptr::null()) });
                    heap.push(&timer);
                    timers.push(timer);
                    model.push(at);
                } else {
                    let timer = timers.swap_remove(which % timers.len());
                    heap.remove(timer.index.get());
                    let i = model.iter().position(|a| *a == timer.at).unwrap();
                    model.swap_remove(i);
                }
                prop_assert_eq!(heap.0.first().map(|(at, _)| *at), model.iter().copied().min());
            }
            model.sort_unstable();
            for at in model {
                let timer = heap.remove(0);
                // SAFETY: all timers are in `timers`.
                prop_assert_eq!(unsafe { &*timer }.at, at);
            }
        }
    }

    #[test]
    fn a_timer_fires_at_its_time_and_not_before() {
        let timers = Timers::new();
        let blocker = Blocker::current();
        blocker.arm();
        let timer = Timer { at: 100, parker: blocker.parker(), index: Cell::new(OUT), seat: Cell::new(ptr::null()) };
        timers.insert(&timer);
        let mut woken = Vec::new();
        timers.fire(99, &mut woken);
        assert!(woken.is_empty());
        assert_eq!(timers.earliest(), 100);
        timers.fire(100, &mut woken);
        assert_eq!(woken.len(), 1);
        assert_eq!(timers.earliest(), NEVER);
        assert_eq!(blocker.park(crate::park::WaitReason::Sleep, None), Token::TIMEOUT);
        woken.pop().unwrap().wake();
    }

    #[test]
    fn a_cancelled_timer_never_fires() {
        let timers = Timers::new();
        let blocker = Blocker::current();
        blocker.arm();
        let timer = Timer { at: 100, parker: blocker.parker(), index: Cell::new(OUT), seat: Cell::new(ptr::null()) };
        timers.insert(&timer);
        timers.cancel(&timer);
        timers.cancel(&timer);
        let mut woken = Vec::new();
        timers.fire(1000, &mut woken);
        assert!(woken.is_empty());
        assert!(blocker.disarm());
    }
}
