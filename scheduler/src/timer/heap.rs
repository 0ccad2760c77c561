//! A 4-ary heap whose entries know their place, so that any of them can be taken out.
//!
//! Used by `queue` alone, for the timers that come in no order. A timer that is cancelled leaves at once and not when its
//! time comes: most timers are deadlines that are never met, far ahead of their cancel, and a heap that keeps them would
//! hold mostly dead ones.
//!
//! The invariants are those of `queue` (M1, M2, M6).

use super::node::Node;
use std::ptr::NonNull;

/// Ordered by time only: of two at the same nanosecond either may come first.
#[derive(Debug)]
pub(super) struct Heap<W>(Vec<(u64, NonNull<Node<W>>)>);

impl<W> Heap<W> {
    pub(super) const fn new() -> Heap<W> {
        Heap(Vec::new())
    }

    /// The one whose entry is the earliest.
    pub(super) fn first(&self) -> Option<(u64, NonNull<Node<W>>)> {
        self.0.first().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The time of the entry at a place.
    pub(super) fn at(&self, i: usize) -> u64 {
        self.0[i].0
    }

    pub(super) fn push(&mut self, at: u64, node: NonNull<Node<W>>) {
        self.0.push((at, node));
        self.up(self.0.len() - 1);
    }

    /// Takes out the entry at a place; its time.
    pub(super) fn remove(&mut self, i: usize) -> u64 {
        let was = self.0[i].0;
        let last = self.0.pop().expect("an index into the heap");
        if i < self.0.len() {
            self.place(i, last);
            self.down(i);
            self.up(i);
        }
        was
    }

    /// All of them, in no order.
    pub(super) fn into_nodes(self) -> impl Iterator<Item = NonNull<Node<W>>> {
        self.0.into_iter().map(|(_, node)| node)
    }

    fn place(&mut self, i: usize, entry: (u64, NonNull<Node<W>>)) {
        self.0[i] = entry;
        // SAFETY: M2, M1.
        unsafe { entry.1.as_ref() }.place.set(i);
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
