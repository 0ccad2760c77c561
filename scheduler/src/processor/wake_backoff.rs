//! Decides whether a push onto a worker's own queue should wake a sleeping worker.
//!
//! Used by `processor`, which owns it.
//!
//! If the owner runs a goroutine itself a moment after it woke a worker for it, the wake-up was in vain and cost more than
//! the goroutine. So after each wake-up in vain, twice as many pushes as before do without one, up to [`Eagerness::MOST`];
//! a growing queue always wakes one. (A pushed goroutine runs without a wake-up: the owner will come to it. The monitor
//! takes care of goroutines that wait longer.)

use std::cell::Cell;

/// A processor's.
#[derive(Debug, Default)]
pub(crate) struct Eagerness {
    vain: Cell<usize>,
    backoff: Cell<u32>,
    skip: Cell<u32>,
}

impl Eagerness {
    const MOST: u32 = 63;
    /// A queue of so many wakes.
    const MANY: usize = 4;

    #[inline]
    pub(crate) fn wakes(&self, vain: usize, queued: usize) -> bool {
        if queued >= Eagerness::MANY {
            return true;
        }
        if self.skip.get() > 0 {
            self.skip.set(self.skip.get() - 1);
            return false;
        }
        let before = self.vain.replace(vain);
        let backoff = if before == vain { self.backoff.get() / 2 } else { self.backoff.get() * 2 + 1 };
        self.backoff.set(backoff.min(Eagerness::MOST));
        self.skip.set(self.backoff.get());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_ups_in_vain_become_rare_and_come_back() {
        let eagerness = Eagerness::default();
        // Each wake-up is in vain.
        let mut vain = 0;
        for _ in 0..1000 {
            vain += usize::from(eagerness.wakes(vain, 1));
        }
        let wakes = vain;
        assert!((5..40).contains(&wakes), "{wakes}");
        assert!(eagerness.wakes(vain, Eagerness::MANY), "a queue that grows");
        // None is any more.
        let wakes = (0..1000).filter(|_| eagerness.wakes(vain, 1)).count();
        assert!(wakes > 800, "{wakes}");
    }
}
