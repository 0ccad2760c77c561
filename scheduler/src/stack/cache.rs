//! Free carriers that stay warm: with their pages, their thread-local block and their reservation.
//!
//! What a goroutine costs beside its own work is the memory of a stack that was not there: two page faults, and the
//! system calls that give the pages back. So an ended goroutine's carrier is kept for the next one. Each processor has a
//! [`WarmCache`] for each kind, which needs no lock; what goes beyond it lies in the runtime's [`WarmPool`], from which
//! any processor takes. The monitor gives back to the system what was not needed for a while ([`WarmPool::trim`]).
//!
//! They move in *magazines* of many, so that a lock is taken once for as many goroutines. (Bonwick and Adams, *Magazines
//! and Vmem*, 2001.)
//!
//! * **W1.** Carriers in a cache or in the pool are free (K3), and whoever holds the list owns them (K1).
//! * **W2.** None of those in the pool is loaded (F1): a worker may have loaded the block of the goroutine that ended last,
//!   whose carrier is in its cache's first magazine, and only the second one goes to the pool.
//! * **W3.** Each keeps its goroutine's reservation of a slot, so there are never more slots in use than reserved.

use crate::base::atomics::Lock;
use crate::config::{Config, ThreadLocals};
use crate::memory;
use crate::stack::coroutine::{Carrier, CarrierList};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Carriers in a magazine at most.
const MAGAZINE: usize = 128;
/// Magazines released in one look of the monitor, which has other things to see to: about two milliseconds' work.
const TRIM: usize = 8;

/// One processor's, of one kind: two magazines, so that a worker at the edge of one does not go to the pool each time.
#[derive(Debug)]
pub(crate) struct WarmCache {
    first: CarrierList,
    second: CarrierList,
    /// So many of the first, those at its end, have lain elsewhere since they were used: they are in no processor's cache.
    cold: Cell<usize>,
    /// Of a magazine.
    size: usize,
}

impl WarmCache {
    /// For a processor of a runtime of this configuration.
    pub(crate) fn new(config: &Config) -> WarmCache {
        let size = config.warm_stacks.div_ceil(2).min(MAGAZINE);
        WarmCache { first: CarrierList::new(), second: CarrierList::new(), cold: Cell::new(0), size }
    }

    #[inline]
    pub(crate) fn take(&self, mode: ThreadLocals, pool: &WarmPool) -> Option<NonNull<Carrier>> {
        let carrier = self.first.pop().or_else(|| self.take_slow(mode, pool));
        if self.first.len() < self.cold.get() {
            self.cold.set(self.first.len());
            self.first.fetch_next();
        }
        carrier
    }

    /// As `take`, if there is one that takes no looking.
    #[inline]
    pub(crate) fn take_warmest(&self) -> Option<NonNull<Carrier>> {
        self.first.pop()
    }

    #[cold]
    fn take_slow(&self, mode: ThreadLocals, pool: &WarmPool) -> Option<NonNull<Carrier>> {
        self.first.append(&self.second);
        if self.first.len() == 0
            && let Some(magazine) = pool.take(mode)
        {
            self.first.append(&magazine);
        }
        self.cold.set(self.first.len());
        self.first.pop()
    }

    /// Returns true if one more would be kept.
    #[inline]
    pub(crate) fn has_room(&self, pool: &WarmPool) -> bool {
        self.first.len() < self.size || (self.size > 0 && (self.second.len() == 0 || pool.keeps()))
    }

    /// Keeps one, for which there is room. Its block may be loaded (W2).
    #[inline]
    pub(crate) fn give(&self, carrier: NonNull<Carrier>, mode: ThreadLocals, pool: &WarmPool) {
        if self.first.len() >= self.size {
            self.give_magazine(mode, pool);
        }
        self.first.push(carrier);
    }

    #[cold]
    fn give_magazine(&self, mode: ThreadLocals, pool: &WarmPool) {
        if self.second.len() > 0 {
            let full = CarrierList::new();
            full.append(&self.second);
            pool.give(mode, full);
        }
        self.second.append(&self.first);
        self.cold.set(0);
    }

    /// Releases all. At home: none of them is loaded.
    #[cold]
    pub(crate) fn release(&self) {
        release(&self.first);
        release(&self.second);
    }
}

/// What the processors of a runtime have too many of.
#[derive(Debug)]
pub(crate) struct WarmPool {
    /// How long what is not needed is kept.
    idle: Duration,
    /// Magazines kept in any case.
    least: usize,
    /// How many magazines there are: so that nobody takes the lock for nothing.
    len: AtomicUsize,
    shelves: Lock<Shelves>,
}

#[derive(Debug, Default)]
struct Shelves {
    /// Pinned, isolated.
    shelves: [Shelf; 2],
    /// Not needed, to be released bit by bit.
    leaving: Vec<CarrierList>,
    /// When it was last looked what is not needed, in the timers' nanoseconds.
    looked: u64,
}

/// The last one is the warmest.
#[derive(Debug, Default)]
struct Shelf {
    magazines: Vec<CarrierList>,
    /// The least there have been since the last look: nobody has needed those.
    unused: usize,
}

// SAFETY: W1: the carriers belong to whoever has the shelves, which lie under a lock.
unsafe impl Send for Shelves {}

impl WarmPool {
    pub(crate) fn new(config: &Config) -> WarmPool {
        let least = config.workers.saturating_mul(config.warm_stacks.saturating_sub(2 * MAGAZINE)) / MAGAZINE;
        WarmPool { idle: config.idle_stacks, least, len: AtomicUsize::new(0), shelves: Lock::new(Shelves::default()) }
    }

    fn keeps(&self) -> bool {
        !self.idle.is_zero() || self.least > 0
    }

    fn take(&self, mode: ThreadLocals) -> Option<CarrierList> {
        // Relaxed: a hint; who misses a magazine makes a carrier anew.
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut shelves = self.shelves.lock();
        let shelf = &mut shelves.shelves[index(mode)];
        let magazine = shelf.magazines.pop()?;
        shelf.unused = shelf.unused.min(shelf.magazines.len());
        // Relaxed: written under the lock.
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(magazine)
    }

    /// One that can be used, for a thread without a cache.
    #[cold]
    pub(crate) fn take_one(&self, mode: ThreadLocals) -> Option<NonNull<Carrier>> {
        let magazine = self.take(mode)?;
        let stale = CarrierList::new();
        let mut found = None;
        while let Some(carrier) = magazine.pop() {
            // SAFETY: W1.
            if unsafe { carrier.as_ref() }.is_reusable() {
                found = Some(carrier);
                break;
            }
            stale.push(carrier);
        }
        magazine.append(&stale);
        if magazine.len() > 0 {
            self.give(mode, magazine);
        }
        found
    }

    fn give(&self, mode: ThreadLocals, magazine: CarrierList) {
        self.shelves.lock().shelves[index(mode)].magazines.push(magazine);
        // Relaxed: as in `take`.
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// In how long [`WarmPool::trim`] may have something to release; `None`: not before somebody gives something.
    pub(crate) fn next_trim(&self, now: u64) -> Option<Duration> {
        if !self.wants_trim() {
            return None;
        }
        let shelves = self.shelves.lock();
        let since = Duration::from_nanos(now.saturating_sub(shelves.looked));
        Some(if shelves.leaving.is_empty() { self.idle.saturating_sub(since) } else { Duration::ZERO })
    }

    fn wants_trim(&self) -> bool {
        // Relaxed: who filled it went to sleep after that, and the monitor has seen that all sleep.
        self.len.load(Ordering::Relaxed) > self.least
    }

    /// Gives back a part of what has not been needed for the time it is kept. From time to time, by the monitor, in a
    /// thread that has its own block loaded.
    pub(crate) fn trim(&self, now: u64) {
        if !self.wants_trim() {
            return;
        }
        let mut due = Vec::new();
        {
            let mut shelves = self.shelves.lock();
            let Shelves { shelves, leaving, looked } = &mut *shelves;
            if leaving.is_empty() && Duration::from_nanos(now.saturating_sub(*looked)) >= self.idle {
                *looked = now;
                let mut kept = self.least;
                for shelf in shelves {
                    let keep = (shelf.magazines.len() - shelf.unused).max(kept.min(shelf.magazines.len()));
                    kept -= keep.min(kept);
                    leaving.extend(shelf.magazines.drain(..shelf.magazines.len() - keep));
                    shelf.unused = keep;
                }
            }
            due.extend(leaving.drain(leaving.len().saturating_sub(TRIM)..));
            // Relaxed: as in `take`.
            self.len.fetch_sub(due.len(), Ordering::Relaxed);
        }
        due.iter().for_each(release);
    }

    /// Gives back everything, because the runtime ends. At home.
    #[cold]
    pub(crate) fn release_all(&self) {
        let mut all = Vec::new();
        {
            let mut shelves = self.shelves.lock();
            let Shelves { shelves, leaving, .. } = &mut *shelves;
            all.append(leaving);
            for shelf in shelves {
                all.append(&mut shelf.magazines);
                shelf.unused = 0;
            }
            // Relaxed: as in `take`.
            self.len.fetch_sub(all.len(), Ordering::Relaxed);
        }
        all.iter().for_each(release);
    }
}

fn index(mode: ThreadLocals) -> usize {
    usize::from(mode == ThreadLocals::Isolated)
}

/// Releases what is on a list, reservations included. In a thread that has its own block loaded.
pub(crate) fn release(list: &CarrierList) {
    while let Some(carrier) = list.pop() {
        // SAFETY: W1: it was on our list.
        let class = unsafe { carrier.as_ref() }.class();
        // SAFETY: K1, K3: free, and not loaded: by the caller, and W2.
        unsafe { Carrier::release(carrier, false) };
        memory::unreserve(class, 1);
    }
}
