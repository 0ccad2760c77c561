//! What a worker has to run and others may steal: the ready ones first in first out, the unbegun ones last in first out.
//!
//! Owned by one `processor`; the thieves' half ([`RunStealer`]) is in the worker's seat. Two queues of `deque`'s; what all
//! workers share is crossbeam's [`Injector`].
//!
//! A goroutine that has begun goes by turns: a queue. One that has not is taken newest first: what was spawned last is
//! still in the cache, and a program that spawns as a tree (each goroutine some more, and waits for them) is run depth
//! first, with as many stacks as the tree is deep; a queue would run it breadth first, with a stack for every inner node.
//! Thieves take the oldest, which have the largest part of the tree before them. (Blumofe and Leiserson, *Scheduling
//! multithreaded computations by work stealing*, 1999, who show it for fork and join.)
//!
//! * **Q1, nobody waits for ever.** After [`STREAK`] first turns in a row a goroutine that has begun has its turn; and from
//!   time to time (the worker's round of fairness) the *oldest* unbegun one goes first ([`RunQueue::oldest`]). So each
//!   waits for a bounded number of turns for each goroutine before it.
//! * **Q2, nothing foreign runs in a queue.** Pushes happen on goroutines' stacks, and pops with their thread-locals loaded.
//!   crossbeam's own deques enter the process-wide epoch collector when they grow, shrink or are stolen from, and that runs
//!   whatever anybody has deferred. So of crossbeam-deque only what enters no epoch is used: the `Injector`, and one
//!   `Worker` for each worker as the tray on which a batch comes out of it. The tray never holds more than [`BATCH`], half
//!   of what it has room for from the start, so it is never resized; and nobody steals from it.
//!
//! The next slot and what is bound to its worker are elsewhere (`next_slot`, `processor`).

use crate::goroutine::block::{Goroutine, Ref};
use crate::queue::deque::{Fifo, Lifo, Owner, Stealer};
use crossbeam_deque::{Steal, Worker as Tray};
use std::cell::Cell;
use std::ptr::NonNull;

/// How many first turns go before a goroutine that has begun (Q1); and how many goroutines one may spawn in a row before
/// they go first (`spawn`). The one bounds the other's queue.
pub(crate) const STREAK: u32 = 64;

/// How many goroutines come out of an injector at a time, at most (Q2).
const BATCH: usize = 32;

/// A queue that everybody pushes to and takes from.
pub(crate) type Injector = crossbeam_deque::Injector<Ref>;

#[derive(Debug)]
pub(crate) struct RunQueue {
    ready: Owner<Goroutine, Fifo>,
    unbegun: Owner<Goroutine, Lifo>,
    /// Empty but while a batch is taken (Q2).
    tray: Tray<Ref>,
    /// First turns since a goroutine that had begun had one.
    streak: Cell<u32>,
}

impl RunQueue {
    pub(crate) fn new() -> RunQueue {
        RunQueue { ready: Owner::new(), unbegun: Owner::new(), tray: Tray::new_fifo(), streak: Cell::new(0) }
    }

    pub(crate) fn stealer(&self) -> RunStealer {
        RunStealer { ready: self.ready.stealer(), unbegun: self.unbegun.stealer() }
    }

    #[inline]
    pub(crate) fn push_ready(&self, g: Ref) {
        self.ready.push(g.as_non_null());
    }

    #[inline]
    pub(crate) fn push_unbegun(&self, g: Ref) {
        self.unbegun.push(g.as_non_null());
    }

    #[inline]
    pub(crate) fn pop_ready(&self) -> Option<Ref> {
        self.streak.set(0);
        self.ready.pop().map(taken)
    }

    /// `None` also when it is the turn of those that have begun: then [`RunQueue::pop_ready`] is to be asked first, and
    /// this again.
    #[inline]
    pub(crate) fn pop_unbegun(&self) -> Option<Ref> {
        if self.streak.get() >= STREAK {
            self.streak.set(0);
            return None;
        }
        self.streak.set(self.streak.get() + 1);
        self.unbegun.pop().map(taken)
    }

    /// Whatever comes first to hand.
    pub(crate) fn pop_any(&self) -> Option<Ref> {
        self.unbegun.pop().or_else(|| self.ready.pop()).map(taken)
    }

    /// The unbegun one that has waited for longest.
    pub(crate) fn oldest(&self) -> Option<Ref> {
        self.unbegun.pop_oldest().map(taken)
    }

    /// Returns true if there are some that have not begun.
    #[inline]
    pub(crate) fn has_unbegun(&self) -> bool {
        !self.unbegun.is_empty()
    }

    /// How many have begun.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many have not begun.
    pub(crate) fn unbegun(&self) -> usize {
        self.unbegun.len()
    }

    /// Some of what is in an injector; the first comes back.
    pub(crate) fn take_batch(&self, from: &Injector) -> Option<Ref> {
        let first = loop {
            match from.steal_batch_with_limit_and_pop(&self.tray, BATCH) {
                Steal::Success(g) => break g,
                Steal::Retry => {}
                Steal::Empty => return None,
            }
        };
        while let Some(g) = self.tray.pop() {
            self.push_ready(g);
        }
        Some(first)
    }

    /// About half of what another worker has; the first comes back.
    pub(crate) fn steal_batch(&self, from: &RunStealer) -> Option<Ref> {
        let unbegun = from.unbegun.steal_half(&self.unbegun);
        unbegun.or_else(|| from.ready.steal_half(&self.ready)).map(taken)
    }
}

/// Anybody's access to a [`RunQueue`].
#[derive(Debug)]
pub(crate) struct RunStealer {
    ready: Stealer<Goroutine, Fifo>,
    unbegun: Stealer<Goroutine, Lifo>,
}

impl RunStealer {
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.unbegun.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.ready() + self.unbegun()
    }

    /// How many that have begun.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many that have not.
    pub(crate) fn unbegun(&self) -> usize {
        self.unbegun.len()
    }

    /// One of those that have begun.
    pub(crate) fn steal_ready(&self) -> Option<Ref> {
        self.ready.steal().map(taken)
    }

    /// One of those that have not.
    pub(crate) fn steal_unbegun(&self) -> Option<Ref> {
        self.unbegun.steal().map(taken)
    }
}

/// A goroutine that has come out of one of the queues.
#[inline]
fn taken(g: NonNull<Goroutine>) -> Ref {
    // SAFETY: only `Ref`s are pushed; whoever pushed it owned it (G1), and each comes out once (B1 in `deque`).
    unsafe { Ref::from_ptr(g) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goroutine::handle::give_back_unused;
    use crate::goroutine::slab::take_block;

    #[test]
    fn the_newest_begins_first_and_thieves_take_the_oldest() {
        let (mine, other) = (RunQueue::new(), RunQueue::new());
        let all: Vec<Ref> = (0..4).map(|_| take_block(None).unwrap()).collect();
        let [a, b, c, d] = all[..] else { unreachable!() };
        all.iter().for_each(|g| mine.push_unbegun(*g));
        assert_eq!(mine.pop_unbegun(), Some(d));
        assert_eq!(mine.oldest(), Some(a));
        assert_eq!(other.steal_batch(&mine.stealer()), Some(b));
        assert_eq!((mine.pop_unbegun(), mine.pop_unbegun()), (Some(c), None));
        mine.push_ready(a);
        mine.push_ready(b);
        assert_eq!((mine.pop_ready(), mine.pop_ready()), (Some(a), Some(b)), "by turns");
        all.into_iter().for_each(give_back_unused);
    }

    #[test]
    fn however_many_begin_a_ready_one_has_its_turn() {
        let queue = RunQueue::new();
        let (new, old) = (take_block(None).unwrap(), take_block(None).unwrap());
        queue.push_ready(old);
        for _ in 0..STREAK {
            queue.push_unbegun(new);
            assert_eq!(queue.pop_unbegun(), Some(new));
        }
        queue.push_unbegun(new);
        assert_eq!(queue.pop_unbegun(), None, "it is the other's turn");
        assert_eq!(queue.pop_ready(), Some(old));
        assert_eq!(queue.pop_unbegun(), Some(new));
        [new, old].into_iter().for_each(give_back_unused);
    }

    #[test]
    fn a_batch_of_the_injector_comes_in_order_and_leaves_the_tray_as_it_was() {
        let (queue, injector) = (RunQueue::new(), Injector::new());
        let all: Vec<Ref> = (0..200).map(|_| take_block(None).unwrap()).collect();
        all.iter().for_each(|g| injector.push(*g));
        let mut out = Vec::new();
        while let Some(first) = queue.take_batch(&injector) {
            out.push(first);
            assert!(queue.ready() < BATCH && queue.tray.is_empty());
            out.extend(std::iter::from_fn(|| queue.pop_ready()));
        }
        assert_eq!(out, all);
        all.into_iter().for_each(give_back_unused);
    }
}
