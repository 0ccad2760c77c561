//! Where the two sides of registered descriptors lie: entries with a number, which are never freed.
//!
//! * **N1.** An entry stays where it is for as long as the process: the poller may look it up by the number in an event of a
//!   registration that is over (E3 in `side`).
//! * **N2.** A number that was taken is given to nobody else until it is put back.

use crate::base::atomics::Lock;
use crate::io::side::Side;
use std::sync::OnceLock;

/// Entries in the first chunk. Each further chunk has twice as many.
const FIRST: usize = 64;
/// Enough for every 32-bit number.
const CHUNKS: usize = 26;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u32,
    pub(super) read: Side,
    pub(super) write: Side,
}

#[derive(Debug)]
pub(super) struct Slab {
    chunks: [OnceLock<Box<[Entry]>>; CHUNKS],
    free: Lock<Free>,
}

#[derive(Debug)]
struct Free {
    put_back: Vec<u32>,
    /// Numbers that were taken at least once.
    made: u32,
}

impl Slab {
    pub(super) fn new() -> Slab {
        let free = Free { put_back: Vec::new(), made: 0 };
        Slab { chunks: std::array::from_fn(|_| OnceLock::new()), free: Lock::new(free) }
    }

    /// The chunk of an entry, and its place in there.
    fn place(number: u32) -> (usize, usize) {
        let at = number as usize + FIRST;
        let chunk = (at.ilog2() - FIRST.ilog2()) as usize;
        (chunk, at - (FIRST << chunk))
    }

    /// The entry with this number, which was taken once.
    pub(super) fn get(&self, number: u32) -> Option<&Entry> {
        let (chunk, at) = Slab::place(number);
        self.chunks.get(chunk)?.get()?.get(at)
    }

    /// N2.
    pub(super) fn take(&self) -> &Entry {
        let number = {
            let mut free = self.free.lock();
            free.put_back.pop().unwrap_or_else(|| {
                free.made += 1;
                free.made - 1
            })
        };
        let (chunk, at) = Slab::place(number);
        let make = || {
            let before = (FIRST << chunk) - FIRST;
            let entry = |at| Entry { number: (before + at) as u32, read: Side::new(), write: Side::new() };
            (0..FIRST << chunk).map(entry).collect()
        };
        &self.chunks[chunk].get_or_init(make)[at]
    }

    pub(super) fn put_back(&self, entry: &Entry) {
        self.free.lock().put_back.push(entry.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_own_entry() {
        let slab = Slab::new();
        for number in 0..1000 {
            assert_eq!(slab.take().number, number);
        }
        for number in [0, 63, 64, 191, 192, 999] {
            assert_eq!(slab.get(number).unwrap().number, number);
        }
        assert!(slab.get(u32::MAX).is_none());
        slab.put_back(slab.get(77).unwrap());
        assert_eq!(slab.take().number, 77);
        assert_eq!(slab.take().number, 1000);
    }
}
