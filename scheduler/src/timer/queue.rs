//! The pending timers of a seat: runs of such as come one after the other, and a heap for the rest.
//!
//! Used by `timers` alone, under the lock of the seat's timers. Most timers of a program are for the same few durations:
//! each is due after those of its kind that were set before. So a timer that is due after the last one of a run is added
//! to it; it needs no comparing with others, and those that leave move nobody: entering and leaving take a few
//! instructions however many there are, and touch no other timer (which lies on a stack that is cold). With [`RUNS`] runs,
//! so many durations can be told apart; what fits into none goes into the heap. So do the first few timers, among which
//! finding the least is as cheap as finding the run.
//!
//! One that is put off, as idle time-outs are at every use, stays where it is until its old time comes: then it moves,
//! once.
//!
//! * **M1.** A node's place changes only under the lock.
//! * **M2.** A node that is in exists and stays where it is: `timers` says who sees to that.
//! * **M6.** The time of an entry is never later than that of its node, and when it is earlier its node was put off.
//! * **M7.** A run's times ascend. One that left its middle leaves a gap; the ends are no gaps, and most are not.

use super::clock::NEVER;
use super::heap::Heap;
use super::node::{Node, OUT};
use std::collections::VecDeque;
use std::ptr::NonNull;

/// How many durations are told apart.
const RUNS: usize = 8;
/// So many go into the heap whatever their times.
const FEW: usize = 16;
/// Runs with fewer gaps are left as they are.
const FEW_GAPS: usize = 32;

/// Bits of a place in a run: that it is one, which run, and its number there.
const IN_RUN: usize = 1 << 63;
const RUN_SHIFT: u32 = 59;
const NUMBER: usize = (1 << RUN_SHIFT) - 1;
const _: () = assert!(RUNS <= 1 << 4 && usize::BITS == 64);

#[derive(Debug)]
struct Run<W> {
    entries: VecDeque<(u64, Option<NonNull<Node<W>>>)>,
    /// The number of the front.
    first: usize,
    gaps: usize,
}

impl<W> Run<W> {
    const fn new() -> Run<W> {
        Run { entries: VecDeque::new(), first: 0, gaps: 0 }
    }

    fn add(&mut self, which: usize, at: u64, node: NonNull<Node<W>>) {
        let number = self.first.wrapping_add(self.entries.len()) & NUMBER;
        // SAFETY: M2, M1.
        unsafe { node.as_ref() }.place.set(IN_RUN | which << RUN_SHIFT | number);
        self.entries.push_back((at, Some(node)));
    }

    fn index_of(&self, place: usize) -> usize {
        place.wrapping_sub(self.first) & NUMBER
    }

    /// The time of the entry that was removed.
    fn remove(&mut self, which: usize, place: usize) -> u64 {
        let i = self.index_of(place);
        let was = self.entries[i].0;
        if i == 0 {
            self.pop_front();
        } else if i + 1 == self.entries.len() {
            self.entries.pop_back();
        } else {
            self.entries[i].1 = None;
            self.gaps += 1;
        }
        if self.gaps > 0 {
            self.see_to_gaps(which);
        }
        was
    }

    fn pop_front(&mut self) {
        self.entries.pop_front();
        self.first = self.first.wrapping_add(1);
    }

    /// M7.
    fn see_to_gaps(&mut self, which: usize) {
        while self.entries.front().is_some_and(|(_, node)| node.is_none()) {
            self.pop_front();
            self.gaps -= 1;
        }
        while self.entries.back().is_some_and(|(_, node)| node.is_none()) {
            self.entries.pop_back();
            self.gaps -= 1;
        }
        if self.gaps > FEW_GAPS && self.gaps > self.entries.len() / 2 {
            self.close_gaps(which);
        }
    }

    #[cold]
    fn close_gaps(&mut self, which: usize) {
        let live = std::mem::take(&mut self.entries);
        self.gaps = 0;
        live.into_iter().for_each(|(at, node)| node.into_iter().for_each(|node| self.add(which, at, node)));
    }
}

/// Ordered by time only: of two at the same nanosecond either may come first.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    /// The first and the last time of each run; of an empty one, [`NEVER`] and 0.
    fronts: [u64; RUNS],
    backs: [u64; RUNS],
    runs: [Run<W>; RUNS],
    /// From here on they are empty.
    used: usize,
    heap: Heap<W>,
    /// The time of the earliest entry, [`NEVER`] if there is none.
    earliest: u64,
}

impl<W> Queue<W> {
    pub(crate) const fn new() -> Queue<W> {
        Queue {
            fronts: [NEVER; RUNS],
            backs: [0; RUNS],
            runs: [const { Run::new() }; RUNS],
            used: 0,
            heap: Heap::new(),
            earliest: NEVER,
        }
    }

    /// The time of the earliest entry, [`NEVER`] if there is none. Its timer may have been put off (M6).
    pub(crate) fn earliest(&self) -> u64 {
        self.earliest
    }

    fn find_earliest(&self) -> u64 {
        let heap = self.heap.first().map_or(NEVER, |(at, _)| at);
        self.fronts[..self.used].iter().fold(heap, |least, at| least.min(*at))
    }

    /// The one whose entry is the earliest.
    pub(crate) fn first(&self) -> Option<(u64, NonNull<Node<W>>)> {
        if let Some((at, node)) = self.heap.first()
            && at == self.earliest
        {
            return Some((at, node));
        }
        let which = self.fronts[..self.used].iter().position(|front| *front == self.earliest)?;
        self.runs[which].entries.front().and_then(|(at, node)| Some((*at, (*node)?)))
    }

    /// The one that comes `n` after the first, if they are in one run.
    pub(crate) fn ahead(&self, n: usize) -> Option<NonNull<Node<W>>> {
        let which = self.fronts[..self.used].iter().position(|front| *front == self.earliest)?;
        self.runs[which].entries.get(n).and_then(|(_, node)| *node)
    }

    /// Puts `node`, which is the first, where it belongs if it was put off: whether it was.
    pub(crate) fn move_if_put_off(&mut self, entry: u64, node: NonNull<Node<W>>) -> bool {
        // SAFETY: M2, M1.
        let at = unsafe { node.as_ref() }.at.get();
        if at > entry {
            self.remove(node);
            self.push(at, node);
        }
        at > entry
    }

    pub(crate) fn push(&mut self, at: u64, node: NonNull<Node<W>>) {
        // SAFETY: M2, M1.
        unsafe { node.as_ref() }.at.set(at);
        self.earliest = self.earliest.min(at);
        if self.heap.len() < FEW {
            return self.heap.push(at, node);
        }
        // The first run that it fits into. A run takes what the ones before it could not: the longer durations come to lie in
        // the first ones, where they leave the others alone.
        let Some(which) = self.backs.iter().position(|back| *back <= at) else { return self.heap.push(at, node) };
        self.used = self.used.max(which + 1);
        self.runs[which].add(which, at, node);
        self.backs[which] = at;
        self.fronts[which] = self.fronts[which].min(at);
    }

    /// Takes `node`, which is in, out.
    pub(crate) fn remove(&mut self, node: NonNull<Node<W>>) {
        // SAFETY: M2, M1.
        let place = unsafe { node.as_ref() }.place.replace(OUT);
        let was = if place & IN_RUN == 0 {
            self.heap.remove(place)
        } else {
            let which = (place & !IN_RUN) >> RUN_SHIFT;
            let run = &mut self.runs[which];
            let was = run.remove(which, place);
            self.fronts[which] = run.entries.front().map_or(NEVER, |(at, _)| *at);
            self.backs[which] = run.entries.back().map_or(0, |(at, _)| *at);
            while self.used > 0 && self.fronts[self.used - 1] == NEVER {
                self.used -= 1;
            }
            was
        };
        if was == self.earliest {
            self.earliest = self.find_earliest();
        }
    }

    /// Gives `node`, which is in, another time.
    pub(crate) fn change(&mut self, at: u64, node: NonNull<Node<W>>) {
        // SAFETY: M2, M1.
        let (place, reference) = unsafe { (node.as_ref().place.get(), node.as_ref()) };
        let entry = if place & IN_RUN == 0 {
            self.heap.at(place)
        } else {
            let run = &self.runs[(place & !IN_RUN) >> RUN_SHIFT];
            run.entries[run.index_of(place)].0
        };
        reference.at.set(at);
        if at < entry {
            self.remove(node);
            self.push(at, node);
        }
    }

    /// Takes out all that `pick` picks.
    pub(crate) fn extract(&mut self, mut pick: impl FnMut(&W) -> bool) -> Vec<NonNull<Node<W>>> {
        let all = std::mem::replace(self, Queue::new());
        let in_runs = all.runs.into_iter().flat_map(|run| run.entries).filter_map(|(_, node)| node);
        let mut picked = Vec::new();
        for node in in_runs.chain(all.heap.into_nodes()) {
            // SAFETY: M2, M1.
            let reference = unsafe { node.as_ref() };
            reference.place.set(OUT);
            if pick(&reference.what) {
                picked.push(node);
            } else {
                self.push(reference.at.get(), node);
            }
        }
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The earliest, whatever was put off.
    fn earliest<W>(queue: &mut Queue<W>) -> Option<(u64, NonNull<Node<W>>)> {
        loop {
            let (at, node) = queue.first()?;
            if !queue.move_if_put_off(at, node) {
                return Some((at, node));
            }
        }
    }

    /// M7, and the summaries.
    fn check<W>(queue: &Queue<W>) {
        assert_eq!(queue.earliest(), queue.find_earliest());
        assert!(queue.fronts[queue.used..].iter().all(|front| *front == NEVER));
        assert!(queue.used == 0 || queue.fronts[queue.used - 1] != NEVER);
        for (which, run) in queue.runs.iter().enumerate() {
            assert!(run.entries.iter().map(|(at, _)| at).is_sorted());
            assert_eq!(run.entries.iter().filter(|(_, node)| node.is_none()).count(), run.gaps);
            assert!(run.gaps <= FEW_GAPS.max(run.entries.len() / 2));
            assert_eq!(run.entries.front().map_or(NEVER, |(at, _)| *at), queue.fronts[which]);
            assert_eq!(run.entries.back().map_or(0, |(at, _)| *at), queue.backs[which]);
            assert!([run.entries.front(), run.entries.back()].into_iter().flatten().all(|(_, node)| node.is_some()));
        }
    }

    proptest! {
        /// Against a sorted list, with removals from and changes in the middle. Times ascend in two ways and come at random.
        #[test]
        fn the_queue_gives_the_earliest_first(
            ops in prop::collection::vec((0u64..50, 0u8..7, 0usize..128), 1..600)
        ) {
            let mut nodes: Vec<(u64, Box<Node<u64>>)> = Vec::new();
            let mut queue = Queue::new();
            for (n, (random, op, which)) in ops.into_iter().enumerate() {
                let which = which % nodes.len().max(1);
                let at = match op {
                    4 => n as u64,
                    5 | 6 => n as u64 + 100,
                    _ => random,
                };
                match op {
                    0 if !nodes.is_empty() => {
                        let (_, node) = nodes.swap_remove(which);
                        queue.remove(NonNull::from(&*node));
                        prop_assert!(!node.is_in());
                    }
                    1 if !nodes.is_empty() => {
                        nodes[which].0 = at;
                        queue.change(at, NonNull::from(&*nodes[which].1));
                    }
                    _ => {
                        let node = Box::new(Node::new(at));
                        queue.push(at, NonNull::from(&*node));
                        nodes.push((at, node));
                    }
                }
                check(&queue);
                prop_assert_eq!(queue.first().map_or(NEVER, |(at, _)| at), queue.earliest());
                prop_assert!(queue.earliest() <= nodes.iter().map(|(at, _)| *at).min().unwrap_or(NEVER));
                if op == 3 {
                    prop_assert_eq!(earliest(&mut queue).map(|(at, _)| at), nodes.iter().map(|(at, _)| *at).min());
                }
            }
            let odd = queue.extract(|made_for| made_for % 2 == 1);
            prop_assert_eq!(odd.len(), nodes.iter().filter(|(_, node)| node.what % 2 == 1).count());
            let mut left: Vec<u64> = nodes.iter().filter(|(_, node)| node.is_in()).map(|(at, _)| *at).collect();
            prop_assert_eq!(left.len() + odd.len(), nodes.len());
            left.sort_unstable();
            for at in left {
                let (first, node) = earliest(&mut queue).unwrap();
                prop_assert_eq!(first, at);
                queue.remove(node);
                check(&queue);
            }
            prop_assert!(queue.first().is_none());
        }
    }

    /// Those that come in order, of several kinds in turn, need no heap; and what left the middle does not pile up.
    #[test]
    fn a_few_durations_are_told_apart() {
        let kinds = [10, 1000, 50_000, 3, 400];
        let mut queue = Queue::new();
        let nodes: Vec<_> = (0..1000).map(Node::new).collect();
        for (node, now) in nodes.iter().zip(0..) {
            queue.push(now + kinds[now as usize % kinds.len()], NonNull::from(node));
        }
        assert_eq!(queue.heap.len(), FEW);
        nodes.iter().filter(|node| node.what % 10 < 8).for_each(|node| queue.remove(NonNull::from(node)));
        check(&queue);
        let in_runs = queue.runs.iter().map(|run| run.entries.len() - run.gaps).sum::<usize>();
        assert_eq!(in_runs + queue.heap.len(), 200);
    }
}
