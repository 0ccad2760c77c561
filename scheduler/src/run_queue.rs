//! What a worker has to run and others may steal: the ready ones first in first out, the unbegun ones last in first out.
//!
//! Owned by one `processor`; the thieves' half ([`RunStealer`]) is in the worker's seat. Two of crossbeam's deques.
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
//!
//! The next slot and what is bound to its worker are elsewhere (`next_slot`, `processor`).

use crate::goroutine::Ref;
use crossbeam_deque::{Steal, Stealer, Worker as Deque};
use std::cell::Cell;

/// How many first turns go before a goroutine that has begun (Q1); and how many goroutines one may spawn in a row before
/// they go first (`spawn`). The one bounds the other's queue.
pub(crate) const STREAK: u32 = 64;

/// A queue that everybody pushes to and takes from.
pub(crate) type Injector = crossbeam_deque::Injector<Ref>;

#[derive(Debug)]
pub(crate) struct RunQueue {
    ready: Deque<Ref>,
    unbegun: Deque<Ref>,
    /// First turns since a goroutine that had begun had one.
    streak: Cell<u32>,
}

impl RunQueue {
    pub(crate) fn new() -> RunQueue {
        RunQueue { ready: Deque::new_fifo(), unbegun: Deque::new_lifo(), streak: Cell::new(0) }
    }

    pub(crate) fn stealer(&self) -> RunStealer {
        RunStealer { ready: self.ready.stealer(), unbegun: self.unbegun.stealer() }
    }

    pub(crate) fn push_ready(&self, g: Ref) {
        self.ready.push(g);
    }

    pub(crate) fn push_unbegun(&self, g: Ref) {
        self.unbegun.push(g);
    }

    pub(crate) fn pop_ready(&self) -> Option<Ref> {
        self.streak.set(0);
        self.ready.pop()
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
        self.unbegun.pop()
    }

    /// Whatever comes first to hand.
    pub(crate) fn pop_any(&self) -> Option<Ref> {
        self.unbegun.pop().or_else(|| self.ready.pop())
    }

    /// The unbegun one that has waited for longest.
    pub(crate) fn oldest(&self, mine: &RunStealer) -> Option<Ref> {
        if self.unbegun.is_empty() { None } else { until_sure(|| mine.unbegun.steal()) }
    }

    /// Whether there are some that have not begun.
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
        until_sure(|| from.steal_batch_and_pop(&self.ready))
    }

    /// About half of what another worker has; the first comes back.
    pub(crate) fn steal_batch(&self, from: &RunStealer) -> Option<Ref> {
        until_sure(|| from.unbegun.steal_batch_and_pop(&self.unbegun))
            .or_else(|| until_sure(|| from.ready.steal_batch_and_pop(&self.ready)))
    }
}

/// Anybody's access to a [`RunQueue`].
#[derive(Debug)]
pub(crate) struct RunStealer {
    ready: Stealer<Ref>,
    unbegun: Stealer<Ref>,
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
        until_sure(|| self.ready.steal())
    }

    /// One of those that have not.
    pub(crate) fn steal_unbegun(&self) -> Option<Ref> {
        until_sure(|| self.unbegun.steal())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goroutine::{give_back_unused, take_block};

    #[test]
    fn the_newest_begins_first_and_thieves_take_the_oldest() {
        let (mine, other) = (RunQueue::new(), RunQueue::new());
        let all: Vec<Ref> = (0..4).map(|_| take_block(None).unwrap()).collect();
        let [a, b, c, d] = all[..] else { unreachable!() };
        all.iter().for_each(|g| mine.push_unbegun(*g));
        assert_eq!(mine.pop_unbegun(), Some(d));
        assert_eq!(mine.oldest(&mine.stealer()), Some(a));
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
}
