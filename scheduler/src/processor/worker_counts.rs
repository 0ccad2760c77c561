//! The counts of workers that attend and of workers that are stuck.
//!
//! Used by `spares` (V1), which decides when to change them. Each change belongs to the flag of one worker in its seat,
//! `unattended`.
//!
//! * **C1.** The thread whose exchange changes a flag also changes the counts. A worker that comes back, or is set aside,
//!   changes the flag first and the counts second; the monitor marks a worker as stuck in the counts first and by the flag
//!   second, and undoes the former if it was too late. So the count of attending workers may be too low for a moment, but
//!   never too high: no worker retires because of such a moment. For the same reason a worker is counted after it has been
//!   brought in, when it can no longer be refused.
//!
//! The bad interleaving with the monitor's two steps exchanged: it sets the flag; the worker comes back, and counts itself
//! as attending; it sees one too many, and retires; then the monitor subtracts it from the count. No worker attends.
//! With one counted before it is brought in: one that was stuck comes back, sees one too many, and retires; the new thread is
//! refused, and its count is taken back. No worker attends.

use crate::base::atomics::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Crew(AtomicU64);

/// One that is stuck; those that attend are the lower half.
const STUCK: u64 = 1 << 32;
/// Both begin here, as they may be too low for a moment (C1).
const NONE: u64 = 1 << 16;

impl Crew {
    pub(crate) fn new() -> Crew {
        Crew(AtomicU64::new(NONE + NONE * STUCK))
    }

    /// Those that attend, and those that are stuck.
    pub(crate) fn counts(&self) -> (usize, usize) {
        // SeqCst: `monitor` looks whether all of them sleep, after it has said that it does.
        Crew::split(self.0.load(Ordering::SeqCst))
    }

    fn split(crew: u64) -> (usize, usize) {
        let count = |half: u64| half.saturating_sub(NONE) as usize;
        (count(crew % STUCK), count(crew / STUCK))
    }

    /// One more attends, and has been there since before this call (C1).
    pub(crate) fn come(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Called by the monitor. `set` sets the worker's flag, and says whether it was set before. Returns true if it is one more.
    pub(crate) fn found_stuck(&self, set: impl FnOnce() -> bool) -> bool {
        // C1: before.
        self.0.fetch_add(STUCK - 1, Ordering::SeqCst);
        let late = set();
        if late {
            self.not_stuck();
        }
        !late
    }

    /// One that was counted as stuck attends: by whoever found its flag set, in the exchange.
    pub(crate) fn not_stuck(&self) {
        self.0.fetch_sub(STUCK - 1, Ordering::SeqCst);
    }

    /// Returns true if more attend than are wanted: then the caller, which does, does not count any more.
    #[inline]
    pub(crate) fn take_excess(&self, wanted: usize) -> bool {
        // Relaxed, here and in the exchange's failure: a guess; the exchange makes one worker of several the one.
        let mut crew = self.0.load(Ordering::Relaxed);
        while Crew::split(crew).0 > wanted {
            match self.0.compare_exchange_weak(crew, crew - 1, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => crew = now,
            }
        }
        false
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;

    /// A crew of so many, and the flag of one of them.
    fn crew(n: usize) -> Arc<(Crew, AtomicBool)> {
        let shared = Arc::new((Crew::new(), AtomicBool::new(false)));
        (0..n).for_each(|_| shared.0.come());
        shared
    }

    fn monitor(shared: &Arc<(Crew, AtomicBool)>) -> loom::thread::JoinHandle<()> {
        let shared = shared.clone();
        loom::thread::spawn(move || {
            let _news = shared.0.found_stuck(|| shared.1.swap(true, Ordering::SeqCst));
        })
    }

    /// The monitor finds the only worker stuck while it comes back, and looks whether it is one too many.
    #[test]
    fn nobody_retires_on_account_of_a_moment() {
        loom::model(|| {
            let shared = crew(1);
            let monitor = monitor(&shared);
            if shared.1.load(Ordering::SeqCst) && shared.1.swap(false, Ordering::SeqCst) {
                shared.0.not_stuck();
            }
            assert!(!shared.0.take_excess(1), "the only one has retired");
            monitor.join().unwrap();
            let stuck = shared.1.load(Ordering::SeqCst);
            assert_eq!(shared.0.counts(), (usize::from(!stuck), usize::from(stuck)));
        });
    }

    /// One is brought in while the only other one comes back: at most one of them retires, and what is left is counted.
    #[test]
    fn one_that_comes_is_not_counted_twice() {
        loom::model(|| {
            let shared = crew(1);
            assert!(shared.0.found_stuck(|| shared.1.swap(true, Ordering::SeqCst)));
            let comes_back = {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    assert!(shared.1.swap(false, Ordering::SeqCst));
                    shared.0.not_stuck();
                    shared.0.take_excess(1)
                })
            };
            let brought_in = {
                let shared = shared.clone();
                loom::thread::spawn(move || shared.0.take_excess(1))
            };
            shared.0.come();
            let retired = [comes_back, brought_in].map(|worker| usize::from(worker.join().unwrap()));
            let left = 2 - retired[0] - retired[1];
            assert!(left >= 1, "nobody attends");
            assert_eq!(shared.0.counts(), (left, 0));
        });
    }

    /// It finds one stuck that is just retiring: that one is in neither count afterwards.
    #[test]
    fn one_that_retires_is_not_counted_as_stuck() {
        loom::model(|| {
            let shared = crew(2);
            let monitor = monitor(&shared);
            let retires = shared.0.take_excess(1);
            if retires && shared.1.swap(true, Ordering::SeqCst) {
                shared.0.not_stuck();
            }
            monitor.join().unwrap();
            assert_eq!(shared.0.counts(), (1, usize::from(!retires)));
        });
    }
}
