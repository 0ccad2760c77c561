//! A bit for each seat that is worth a look: one that a worker attends, or that has something queued.
//!
//! Used by `seats`, for `worker` and `monitor`. When thousands of workers are stuck, their seats are mostly empty, and a
//! worker that searches for work would spend most of its time on them; so it checks one bit for each.
//!
//! * **E1.** The bit of an attended seat is set: it is set after `unattended` has become false.
//! * **E2.** Only the monitor clears a bit, and checks the seat again afterwards: if by then the seat has something or is
//!   attended, the monitor sets the bit again. Code that puts something on an unattended seat sets the bit afterwards.
//!
//! The bad interleaving without the second check: the monitor finds the seat empty; its worker pushes, and sets the bit,
//! which is still set; the monitor clears it. With the second check, both change the same word by exchanges. If the
//! setter's comes last, the bit is set; if the monitor's does, it has read what the setter wrote, and sees the push.

use crate::base::atomics::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Marks(Box<[AtomicU64]>);

impl Marks {
    /// Room for `most`, none of them set.
    pub(crate) fn new(most: usize) -> Marks {
        Marks((0..most.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn set(&self, index: usize) {
        // Release: E2: publishes what was put there, to the monitor's exchange.
        self.0[index / 64].fetch_or(1 << (index % 64), Ordering::Release);
    }

    /// E2: by the monitor, which looks once more afterwards.
    pub(crate) fn clear(&self, index: usize) {
        // Acquire: E2: pairs with `set`.
        self.0[index / 64].fetch_and(!(1 << (index % 64)), Ordering::Acquire);
    }

    #[cfg(test)]
    pub(crate) fn is_set(&self, index: usize) -> bool {
        // Relaxed: a hint.
        self.0[index / 64].load(Ordering::Relaxed) & 1 << (index % 64) != 0
    }

    /// Those of the first `len` that are set, from `start` on and round.
    pub(crate) fn from(&self, start: usize, len: usize) -> impl Iterator<Item = usize> {
        let (words, before) = (len.div_ceil(64), (1_u64 << (start % 64)) - 1);
        (0..=words).flat_map(move |i| {
            let word = (start / 64 + i) % words;
            // Relaxed: a sleeper's second look has a fence before it, and so has the setter's look for sleepers (`idle`).
            let bits = self.0[word].load(Ordering::Relaxed);
            // The word of `start` comes first, and what was left out of it last.
            let mut bits = match i {
                0 => bits & !before,
                _ if i == words => bits & before,
                _ => bits,
            };
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(word * 64 + bit)
            })
        })
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_set_come_once_each_from_anywhere_on() {
        let marks = Marks::new(300);
        let set = [0, 5, 63, 64, 130, 131, 199];
        set.iter().for_each(|i| marks.set(*i));
        for start in 0..200 {
            let found: Vec<_> = marks.from(start, 200).collect();
            let split = set.partition_point(|i| *i < start);
            assert_eq!(found, [&set[split..], &set[..split]].concat(), "from {start}");
        }
        marks.clear(64);
        assert!(!marks.is_set(64) && marks.is_set(63));
        assert_eq!(marks.from(0, 200).count(), set.len() - 1);
        assert_eq!(Marks::new(300).from(0, 1).count(), 0);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;

    /// The worker of an unattended seat puts something there while the monitor clears the bit: it is set in the end.
    #[test]
    fn what_is_put_on_an_unattended_seat_is_not_overlooked() {
        loom::model(|| {
            let shared = Arc::new((Marks::new(1), AtomicBool::new(false)));
            shared.0.set(0);
            let worker = {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    shared.1.store(true, Ordering::Relaxed);
                    shared.0.set(0);
                })
            };
            if !shared.1.load(Ordering::Relaxed) {
                shared.0.clear(0);
                if shared.1.load(Ordering::Relaxed) {
                    shared.0.set(0);
                }
            }
            worker.join().unwrap();
            assert!(shared.0.is_set(0), "something is there, and nobody looks");
        });
    }
}
