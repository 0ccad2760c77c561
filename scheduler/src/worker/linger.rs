//! Decides whether a worker stays awake for a moment before it sleeps, for pinned goroutines that hand over between
//! threads.
//!
//! A pinned goroutine can't be moved to the worker of its partner. If the two have begun on different workers, each
//! hand-over finds the other's thread asleep, and waking it takes ten times as long as the rest. So a worker with pinned
//! goroutines watches its inbox for [`LONG`] before it sleeps, as long as that pays off: after each failure it skips this
//! twice as often, up to [`RAREST`]. So it costs next to nothing in a process that waits for something slower.

use crate::timer::clock;

/// Nanoseconds: about what the wake-up would take.
const LONG: u64 = 10_000;
/// It is tried at least once in 2 to the power of this many sleeps.
const RAREST: u32 = 7;

#[derive(Debug, Default)]
pub(super) struct Linger {
    /// How often in a row it was in vain.
    vain: u32,
    /// Sleeps to come without it.
    skip: u32,
}

impl Linger {
    /// Returns true if `come` came true in the moment that it is worth.
    pub(super) fn until(&mut self, come: impl Fn() -> bool) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let end = clock::now() + LONG;
        let mut has_come = come();
        while !has_come && clock::now() < end {
            std::hint::spin_loop();
            has_come = come();
        }
        self.count(has_come);
        has_come
    }

    fn count(&mut self, has_come: bool) {
        self.vain = if has_come { self.vain.saturating_sub(2) } else { (self.vain + 1).min(RAREST) };
        self.skip = (1 << self.vain) - 1;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_vain_becomes_rare_and_what_is_of_use_stays() {
        let mut linger = Linger::default();
        let tries = |linger: &mut Linger, comes: bool| {
            let tried = std::cell::Cell::new(0);
            for _ in 0..10_000 {
                let before = linger.skip;
                if before > 0 {
                    linger.skip -= 1;
                } else {
                    tried.set(tried.get() + 1);
                    linger.count(comes);
                }
            }
            tried.get()
        };
        assert!(tries(&mut linger, false) < 100);
        assert!(tries(&mut linger, true) > 9_000);
        assert!(Linger::default().until(|| true));
        assert!(!Linger::default().until(|| false));
    }
}
