//! A timer as the queues see it, and where it is in them.
//!
//! Used by `queue` and `heap`, under the lock of the seat's timers.

use std::cell::Cell;

/// The place of a timer that is in no queue.
pub(super) const OUT: usize = usize::MAX;

/// What the queue needs of a timer: the first field of each, so that a pointer to it is a pointer to the timer.
#[derive(Debug)]
pub(crate) struct Node<W> {
    /// Where its entry is: [`OUT`], an index into the heap, or a place in a run.
    pub(crate) place: Cell<usize>,
    /// When it is due, while it is in.
    pub(crate) at: Cell<u64>,
    pub(crate) what: W,
}

impl<W> Node<W> {
    pub(crate) const fn new(what: W) -> Node<W> {
        Node { place: Cell::new(OUT), at: Cell::new(0), what }
    }

    /// Returns true if it is in. Under the lock (M1).
    pub(crate) fn is_in(&self) -> bool {
        self.place.get() != OUT
    }
}
