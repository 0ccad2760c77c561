//! Models of the slot whose owner changes it without exchanges.

use super::*;
use crate::base::atomics::models::model;
use loom::cell::UnsafeCell;
use loom::sync::Arc;

/// A slot, and for each goroutine what its last owner did to it, which loom watches (N1).
struct Place {
    slot: NextSlot,
    goroutines: [UnsafeCell<usize>; 4],
}

// SAFETY: that the slot keeps the accesses apart is what the models check.
unsafe impl Sync for Place {}

impl Place {
    /// By who has taken out `word`: it owns that goroutine, and runs it.
    fn run(&self, word: Word) -> usize {
        let n = word.addr() / 64;
        if n > 0 {
            // SAFETY: loom finds accesses that meet.
            self.goroutines[n].with_mut(|turns| unsafe {
                *turns += 1;
                assert_eq!(*turns, 2, "readied, then taken");
            });
        }
        n
    }

    /// Called by the owner: readies goroutine `n`.
    fn put(&self, n: usize) -> usize {
        // SAFETY: as above.
        self.goroutines[n].with_mut(|turns| unsafe { *turns += 1 });
        self.run(self.slot.replace(goroutine(n)))
    }

    /// As `NextSlot::take`, but for the block.
    fn take(&self) -> usize {
        self.run(self.slot.replace(ptr::null_mut()))
    }
}

/// Stands for goroutine `n`, which is never looked into.
fn goroutine(n: usize) -> Word {
    ptr::without_provenance_mut(n * 64)
}

/// An owner that puts `puts` in and takes out again by turns, and thieves who come at any time: each goroutine comes out
/// once. (Red without either fence, and with a thief that does not look whether the owner is busy.)
fn each_comes_out_once(puts: usize, thieves: usize, preemptions: usize) {
    model(preemptions, move || {
        let place = Arc::new(Place { slot: NextSlot::new(), goroutines: std::array::from_fn(|_| UnsafeCell::new(0)) });
        let thieves: Vec<_> = (0..thieves)
            .map(|_| {
                let place = place.clone();
                loom::thread::spawn(move || place.run(place.slot.steal_word()))
            })
            .collect();
        let mut out: Vec<usize> = Vec::new();
        for n in 1..=puts {
            out.push(place.put(n));
            if n % 2 == 0 {
                out.push(place.take());
            }
        }
        out.extend(thieves.into_iter().map(|thief| thief.join().unwrap()));
        out.push(place.take());
        out.retain(|n| *n != 0);
        out.sort_unstable();
        assert_eq!(out, (1..=puts).collect::<Vec<_>>());
    });
}

#[test]
fn an_owner_and_a_thief() {
    each_comes_out_once(3, 1, 4);
}

#[test]
fn an_owner_and_two_thieves() {
    each_comes_out_once(2, 2, 2);
}
