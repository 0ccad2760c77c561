//! Which workers sleep and which one is woken: no lost wake-up, and no useless ones while a worker searches anyway.
//!
//! Called by `processor` and `shared` (a push announces itself with [`Idle::notify`]) and by `worker` (going to
//! sleep, searching).
//!
//! # The protocol
//!
//! Pusher: make the work visible; fence; if nobody searches and somebody sleeps, wake one (it searches then).
//! Sleeper: enter the list of sleepers, stop searching; fence; look at all queues once more; sleep.
//!
//! A worker that finds work ends its search, passes a fence, and looks once more, if it was the last one: whoever pushed
//! meanwhile has seen a searcher. So does a pusher that counted itself for a sleeper it meant to wake, and found none.
//!
//! The bad interleaving, without the second look: the sleeper finds all queues empty; the pusher pushes, sees a
//! searcher (the sleeper itself) and wakes nobody; the sleeper sleeps, with work in the queue. With the two
//! fences one of the two must see the other: if the pusher's look at `searching`/`sleeping` comes before the
//! sleeper's change in the single total order, its push comes before the sleeper's second look.
//!
//! The bad interleaving, if a pusher that finds the list empty just takes back its count: it has seen a sleeper, which wakes
//! by itself, runs something and falls asleep again; another pusher sees that sleeper, and the first one's count, and wakes
//! nobody. Nobody looks for its push any more.
//!
//! * **D1.** `searching` counts workers that will look at every queue before they sleep.
//! * **D2.** Whoever takes an index out of the list wakes that worker; a worker that finds itself no longer in
//!   the list has been woken as a searcher.

use crate::base::atomics::{AtomicUsize, ModelledLock, Ordering, fence};

#[derive(Debug)]
pub(crate) struct Idle {
    searching: AtomicUsize,
    sleeping: AtomicUsize,
    sleepers: ModelledLock<Vec<usize>>,
    vain: AtomicUsize,
}

impl Idle {
    pub(crate) fn new() -> Idle {
        Idle {
            searching: AtomicUsize::new(0),
            sleeping: AtomicUsize::new(0),
            sleepers: ModelledLock::new(Vec::new()),
            vain: AtomicUsize::new(0),
        }
    }

    /// Makes what loom has to know.
    #[cfg(all(test, loom))]
    pub(crate) fn touch(&self) {
        drop(self.sleepers.lock());
    }

    /// A worker was woken and has found nothing.
    pub(crate) fn count_vain(&self) {
        // Relaxed: a statistic that pushers go by (`processor::Eagerness`).
        self.vain.fetch_add(1, Ordering::Relaxed);
    }

    /// How many wake-ups were in vain so far.
    pub(crate) fn vain(&self) -> usize {
        // Relaxed: as above.
        self.vain.load(Ordering::Relaxed)
    }

    /// After work that anybody may take was pushed. The worker to wake, if one is needed.
    #[must_use]
    pub(crate) fn notify(&self) -> Option<usize> {
        self.notify_rather(|_| true)
    }

    /// The same for work that not all may take: one that may, if it sleeps, goes before the others. If there is none, or
    /// somebody searches who may not take it, the pusher has to try again later (`monitor`).
    #[must_use]
    pub(crate) fn notify_rather(&self, may: impl Fn(usize) -> bool) -> Option<usize> {
        // The pusher's fence.
        fence(Ordering::SeqCst);
        // Relaxed, both: ordered by the fence.
        if self.sleeping.load(Ordering::Relaxed) == 0 || self.searching.load(Ordering::Relaxed) != 0 {
            return None;
        }
        self.wake_one(may)
    }

    /// Returns true if some worker sleeps, as far as can be seen without a fence.
    #[inline]
    pub(crate) fn seems_asleep(&self) -> bool {
        // Relaxed: a hint: one that falls asleep at this very moment may not be seen. Then what was pushed waits for its
        // owner, for the next push, or for the monitor's look.
        self.sleeping.load(Ordering::Relaxed) != 0
    }

    #[cold]
    fn wake_one(&self, may: impl Fn(usize) -> bool) -> Option<usize> {
        loop {
            // Relaxed: one pusher of many becomes the waker, and the count stands for the worker it wakes (D1). Whoever is
            // counted already has its fence before it.
            if self.searching.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                return None;
            }
            let woken = self.take_sleeper(&may);
            if woken.is_some() {
                return woken;
            }
            // Nobody to look for what others have pushed meanwhile (D1): as `end_search`.
            let _last = self.end_search();
            // Relaxed: ordered by the fence.
            if self.sleeping.load(Ordering::Relaxed) == 0 {
                return None;
            }
        }
    }

    fn take_sleeper(&self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut sleepers = self.sleepers.lock();
        // The last one that may, or the last one.
        let at = sleepers.iter().rposition(|index| may(*index)).or(sleepers.len().checked_sub(1))?;
        let index = sleepers.swap_remove(at);
        // SeqCst: the count, then the monitor's flag (`Shared::wake_monitor`, which the woken worker calls).
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
        Some(index)
    }

    /// The worker begins to search.
    pub(crate) fn start_search(&self) {
        // Relaxed: whoever does not see it wakes another one; whoever sees it is seen by the last look (D1).
        self.searching.fetch_add(1, Ordering::Relaxed);
    }

    /// It found something. `true`: it was the last one searching, so it should see to it that another looks
    /// when there is more.
    #[must_use]
    pub(crate) fn end_search(&self) -> bool {
        // Relaxed: the fence orders it before the caller's look.
        let last = self.searching.fetch_sub(1, Ordering::Relaxed) == 1;
        if last {
            fence(Ordering::SeqCst);
        }
        last
    }

    /// It found nothing and enters the list; afterwards it must look once more at every queue.
    pub(crate) fn fall_asleep(&self, index: usize) {
        {
            let mut sleepers = self.sleepers.lock();
            sleepers.push(index);
            // Relaxed, both: ordered by the fence. (The monitor may see it too late, and looks once more.)
            self.sleeping.fetch_add(1, Ordering::Relaxed);
        }
        self.searching.fetch_sub(1, Ordering::Relaxed);
        // The sleeper's fence.
        fence(Ordering::SeqCst);
    }

    /// It is awake again, for whatever reason, and searches (D2).
    pub(crate) fn wake_up(&self, index: usize) {
        let mut sleepers = self.sleepers.lock();
        if let Some(at) = sleepers.iter().position(|i| *i == index) {
            sleepers.swap_remove(at);
            // SeqCst: as in `take_sleeper`.
            self.sleeping.fetch_sub(1, Ordering::SeqCst);
            // Relaxed: as in `start_search`.
            self.searching.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns true if some worker sleeps, or is looking for work. A snapshot.
    pub(crate) fn any_awaits_work(&self) -> bool {
        // Relaxed: a snapshot.
        self.any_asleep() || self.searching.load(Ordering::Relaxed) != 0
    }

    /// Returns true if some worker sleeps. A snapshot.
    pub(crate) fn any_asleep(&self) -> bool {
        // Relaxed: a snapshot.
        self.sleeping.load(Ordering::Relaxed) != 0
    }

    /// How many sleep. A snapshot.
    pub(crate) fn asleep(&self) -> usize {
        // SeqCst: the monitor's flag, then the count; see `take_sleeper`.
        self.sleeping.load(Ordering::SeqCst)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_push_wakes_one_sleeper_and_only_one() {
        let idle = Idle::new();
        assert_eq!(idle.notify(), None, "nobody sleeps");
        for i in [0, 1] {
            idle.start_search();
            idle.fall_asleep(i);
        }
        assert_eq!(idle.notify(), Some(1));
        assert_eq!(idle.notify(), None, "the woken worker searches for both");
        idle.wake_up(1);
        assert!(idle.end_search(), "the last one searching");
        assert_eq!(idle.notify(), Some(0));
    }

    #[test]
    fn one_that_may_take_it_goes_before_one_that_slept_later() {
        let idle = Idle::new();
        for i in [0, 1, 2] {
            idle.start_search();
            idle.fall_asleep(i);
        }
        assert_eq!(idle.notify_rather(|i| i == 0), Some(0));
        idle.wake_up(0);
        assert!(idle.end_search());
        assert_eq!(idle.notify_rather(|i| i == 0), Some(1), "none that may sleeps: the search is another's to begin");
    }

    #[test]
    fn a_sleeper_that_wakes_by_itself_leaves_the_list() {
        let idle = Idle::new();
        idle.start_search();
        idle.fall_asleep(3);
        assert!(idle.any_asleep());
        idle.wake_up(3);
        assert!(!idle.any_asleep());
        assert!(idle.end_search());
        assert_eq!(idle.notify(), None);
    }
}

#[cfg(all(test, loom))]
mod models;
