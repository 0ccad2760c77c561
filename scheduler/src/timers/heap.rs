//! A 4-ary heap whose entries know their place, so that any of them can be taken out.
//!
//! Used by `timers` alone, under the lock of the seat's heap. A timer that is cancelled leaves at once and not when
//! its time comes: most timers are deadlines that are never met, far ahead of their cancel, and a heap that keeps
//! them would hold mostly dead ones. Taking one out that was put in last, the usual case, moves nobody. One that is put
//! off, as idle time-outs are at every use, stays where it is until its old time comes: then it moves, once.
//!
//! * **M1.** A node's `index` and its place change only under the lock of the heap.
//! * **M6.** The time of an entry is never later than that of its node, and when it is earlier its node was put off.
//! * **M2.** A node in the heap exists and stays where it is: `timers` says who sees to that.

use std::cell::Cell;
use std::ptr::NonNull;

const OUT: usize = usize::MAX;

/// What the heap needs of a timer: the first field of each, so that a pointer to it is a pointer to the timer.
#[derive(Debug)]
pub(super) struct Node<W> {
    index: Cell<usize>,
    /// When it is due, while it is in the heap.
    at: Cell<u64>,
    pub(super) what: W,
}

impl<W> Node<W> {
    pub(super) const fn new(what: W) -> Node<W> {
        Node { index: Cell::new(OUT), at: Cell::new(0), what }
    }

    /// Whether it is in the heap. Under the lock (M1).
    pub(super) fn is_in(&self) -> bool {
        self.index.get() != OUT
    }
}

/// Ordered by time only: of two at the same nanosecond either may come first.
#[derive(Debug)]
pub(super) struct Heap<W>(Vec<(u64, NonNull<Node<W>>)>);

impl<W> Heap<W> {
    pub(super) const fn new() -> Heap<W> {
        Heap(Vec::new())
    }

    /// The one whose entry is the earliest. It may have been put off (M6).
    pub(super) fn first(&self) -> Option<(u64, NonNull<Node<W>>)> {
        self.0.first().copied()
    }

    /// Puts the first where it belongs if it was put off: whether it was.
    pub(super) fn move_first(&mut self) -> bool {
        let Some((entry, node)) = self.first() else { return false };
        // SAFETY: M2, M1.
        let at = unsafe { node.as_ref() }.at.get();
        if at > entry {
            self.settle(0, (at, node));
        }
        at > entry
    }

    pub(super) fn push(&mut self, at: u64, node: NonNull<Node<W>>) {
        // SAFETY: M2, M1.
        unsafe { node.as_ref() }.at.set(at);
        self.0.push((at, node));
        self.up(self.0.len() - 1);
    }

    /// Takes `node`, which is in, out.
    pub(super) fn remove(&mut self, node: NonNull<Node<W>>) {
        // SAFETY: M2, M1.
        let i = unsafe { node.as_ref() }.index.replace(OUT);
        let last = self.0.pop().expect("an index into the heap");
        if i < self.0.len() {
            self.settle(i, last);
        }
    }

    /// Gives `node`, which is in, another time.
    pub(super) fn change(&mut self, at: u64, node: NonNull<Node<W>>) {
        // SAFETY: M2, M1.
        let reference = unsafe { node.as_ref() };
        reference.at.set(at);
        let i = reference.index.get();
        if at < self.0[i].0 {
            self.settle(i, (at, node));
        }
    }

    /// Takes out all that `pick` picks.
    pub(super) fn extract(&mut self, mut pick: impl FnMut(&W) -> bool) -> Vec<NonNull<Node<W>>> {
        let mut picked = Vec::new();
        for (_, node) in std::mem::take(&mut self.0) {
            // SAFETY: M2, M1.
            let reference = unsafe { node.as_ref() };
            reference.index.set(OUT);
            if pick(&reference.what) {
                picked.push(node);
            } else {
                self.push(reference.at.get(), node);
            }
        }
        picked
    }

    /// Puts `entry` where place `i` is free, and from there where it belongs.
    fn settle(&mut self, i: usize, entry: (u64, NonNull<Node<W>>)) {
        self.place(i, entry);
        self.down(i);
        self.up(i);
    }

    fn place(&mut self, i: usize, entry: (u64, NonNull<Node<W>>)) {
        self.0[i] = entry;
        // SAFETY: M2, M1.
        unsafe { entry.1.as_ref() }.index.set(i);
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
    use proptest::prelude::*;

    /// The earliest, whatever was put off.
    fn earliest<W>(heap: &mut Heap<W>) -> Option<(u64, NonNull<Node<W>>)> {
        while heap.move_first() {}
        heap.first()
    }

    proptest! {
        /// Against a sorted list, with removals from and changes in the middle.
        #[test]
        fn the_heap_gives_the_earliest_first(ops in prop::collection::vec((0u64..50, 0u8..4, 0usize..64), 1..200)) {
            let mut nodes: Vec<(u64, Box<Node<u64>>)> = Vec::new();
            let mut heap = Heap::new();
            for (at, op, which) in ops {
                let which = which % nodes.len().max(1);
                match op {
                    0 if !nodes.is_empty() => {
                        let (_, node) = nodes.swap_remove(which);
                        heap.remove(NonNull::from(&*node));
                        prop_assert!(!node.is_in());
                    }
                    1 if !nodes.is_empty() => {
                        nodes[which].0 = at;
                        heap.change(at, NonNull::from(&*nodes[which].1));
                    }
                    _ => {
                        let node = Box::new(Node::new(at));
                        heap.push(at, NonNull::from(&*node));
                        nodes.push((at, node));
                    }
                }
                prop_assert!(heap.first().map(|(at, _)| at) <= nodes.iter().map(|(at, _)| *at).min());
                if op == 3 {
                    prop_assert_eq!(earliest(&mut heap).map(|(at, _)| at), nodes.iter().map(|(at, _)| *at).min());
                }
            }
            let odd = heap.extract(|made_for| made_for % 2 == 1);
            prop_assert_eq!(odd.len(), nodes.iter().filter(|(_, node)| node.what % 2 == 1).count());
            let mut left: Vec<u64> = nodes.iter().filter(|(_, node)| node.is_in()).map(|(at, _)| *at).collect();
            prop_assert_eq!(left.len() + odd.len(), nodes.len());
            left.sort_unstable();
            for at in left {
                let (first, node) = earliest(&mut heap).unwrap();
                prop_assert_eq!(first, at);
                heap.remove(node);
            }
            prop_assert!(heap.first().is_none());
        }
    }
}
