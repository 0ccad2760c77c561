//! `Pool`: values that are kept to be used again, Go's `sync.Pool`.
//!
//! Each processor has a shard with a lock of its own, which nobody else wants as long as its shard is not empty.
//!
//! * **Q1.** A shard's `len` is what it holds, written under its lock; read without, it is a hint.
//! * **Q2.** While there are values a sweep is to come. A sweep clears `armed` before it takes a shard's lock, a put reads
//!   it after it has had it: either the sweep sees the value, or the put sees that it has to set the timer.
//! * **Q3.** Values are made, and dropped, with no lock held.

use super::poison::lock;
use crate::time::after_func;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// How many values a shard keeps.
const KEPT: usize = 256;
/// How long values are kept that nobody wants, at least; twice that at most.
const IDLE: Duration = Duration::from_secs(10);

/// Values that are kept to be used again: Go's `sync.Pool`, for buffers and the like.
///
/// Each processor keeps up to 256 values of its own; what is put beyond that is dropped. Values that nobody has wanted
/// for 10 seconds are dropped, 20 seconds after they were put at the latest. ("Any item stored in the Pool may be removed
/// automatically at any time without notification"; Go does it with its garbage collector.) The first `put` sets a timer
/// for that, on a plain thread the default runtime's.
///
/// A `put` happens before the `get` that returns the value.
///
/// ```
/// static BUFFERS: gorun::sync::Pool<Vec<u8>> = gorun::sync::Pool::new(|| Vec::with_capacity(4096));
/// let mut buffer = BUFFERS.get();
/// buffer.extend(b"work");
/// buffer.clear();
/// BUFFERS.put(buffer);
/// ```
pub struct Pool<T, F = fn() -> T> {
    make: F,
    idle: Duration,
    shards: OnceLock<Arc<Shards<T>>>,
}

struct Shards<T> {
    all: Box<[Shard<T>]>,
    idle: Duration,
    /// A sweep is to come.
    armed: AtomicBool,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Shard<T> {
    len: AtomicUsize,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    fresh: Vec<T>,
    /// Since before the last sweep.
    old: Vec<T>,
}

impl<T, F> Pool<T, F>
where
    T: Send + 'static,
    F: Fn() -> T,
{
    /// An empty pool; `make` makes values when there is none.
    ///
    /// ```
    /// let pool = gorun::sync::Pool::new(|| 7);
    /// assert_eq!(pool.get(), 7);
    /// ```
    pub const fn new(make: F) -> Pool<T, F> {
        Pool::with_idle(make, IDLE)
    }

    /// One that keeps values that nobody wants for `idle`, and for twice as long at most.
    ///
    /// ```
    /// use gorun::sync::Pool;
    /// use std::time::Duration;
    /// static MAPS: Pool<Vec<u64>> = Pool::with_idle(Vec::new, Duration::from_secs(1));
    /// MAPS.put(vec![1]);
    /// ```
    pub const fn with_idle(make: F, idle: Duration) -> Pool<T, F> {
        Pool { make, idle, shards: OnceLock::new() }
    }

    /// A value: one that was put, the last one of this processor's if it has any; else a new one.
    ///
    /// ```
    /// let pool = gorun::sync::Pool::new(|| 7);
    /// pool.put(8);
    /// assert_eq!(pool.get(), 8);
    /// assert_eq!(pool.get(), 7);
    /// ```
    pub fn get(&self) -> T {
        self.try_get().unwrap_or_else(&self.make)
    }

    /// A value that was put, if there is one.
    ///
    /// ```
    /// assert_eq!(gorun::sync::Pool::new(|| 7).try_get(), None);
    /// ```
    pub fn try_get(&self) -> Option<T> {
        let shards = self.shards.get()?;
        let (mine, n) = (shards.mine(), shards.all.len());
        (0..n).find_map(|i| shards.all[(mine + i) % n].take())
    }

    /// Keeps `value` for who wants it.
    ///
    /// ```
    /// let pool = gorun::sync::Pool::new(String::new);
    /// pool.put(String::from("a text"));
    /// assert_eq!(pool.get(), "a text");
    /// ```
    pub fn put(&self, value: T) {
        let shards = self.shards.get_or_init(|| Arc::new(Shards::new(self.idle)));
        // Q3: what is too much is dropped here.
        let Err(_too_many) = shards.all[shards.mine()].keep(value) else {
            shards.arm();
            return;
        };
    }
}

impl<T: Send + 'static> Shards<T> {
    fn new(idle: Duration) -> Shards<T> {
        let n = std::thread::available_parallelism().map_or(1, usize::from);
        Shards { all: (0..n).map(|_| Shard::new()).collect(), idle, armed: AtomicBool::new(false) }
    }

    /// A caller that has moved to another processor meanwhile only meets others at a lock.
    fn mine(&self) -> usize {
        gorun_scheduler::processor_hint() % self.all.len()
    }

    /// Q2.
    fn arm(self: &Arc<Self>) {
        // Relaxed: the shard's lock orders it.
        if !self.armed.load(Ordering::Relaxed) && !self.armed.swap(true, Ordering::SeqCst) {
            let shards = Arc::downgrade(self);
            after_func(self.idle, move || {
                if let Some(shards) = shards.upgrade() {
                    shards.sweep();
                }
            });
        }
    }

    fn sweep(self: Arc<Self>) {
        self.armed.store(false, Ordering::SeqCst);
        // Looked at after the timer is set: their drops are users'.
        let dropped: Vec<Vec<T>> = self.all.iter().map(Shard::age).collect();
        // Relaxed: a put after our turn sees to itself (Q2).
        if self.all.iter().any(|shard| shard.len.load(Ordering::Relaxed) > 0) {
            self.arm();
        }
        drop(dropped);
    }
}

impl<T> Shard<T> {
    fn new() -> Shard<T> {
        Shard { len: AtomicUsize::new(0), kept: Mutex::new(Kept { fresh: Vec::new(), old: Vec::new() }) }
    }

    fn take(&self) -> Option<T> {
        // Relaxed: Q1, a hint.
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut kept = lock(&self.kept);
        let value = kept.fresh.pop().or_else(|| kept.old.pop());
        self.note(&kept);
        value
    }

    fn keep(&self, value: T) -> Result<(), T> {
        let mut kept = lock(&self.kept);
        if kept.fresh.len() + kept.old.len() >= KEPT {
            return Err(value);
        }
        kept.fresh.push(value);
        self.note(&kept);
        Ok(())
    }

    /// What was old is no longer kept, and what was fresh is old.
    fn age(&self) -> Vec<T> {
        let mut kept = lock(&self.kept);
        let fresh = std::mem::take(&mut kept.fresh);
        let dropped = std::mem::replace(&mut kept.old, fresh);
        self.note(&kept);
        dropped
    }

    fn note(&self, kept: &Kept<T>) {
        // Relaxed: Q1.
        self.len.store(kept.fresh.len() + kept.old.len(), Ordering::Relaxed);
    }
}

impl<T, F> fmt::Debug for Pool<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: for a look.
        let len = |shard: &Shard<T>| shard.len.load(Ordering::Relaxed);
        let kept: usize = self.shards.get().map_or(0, |shards| shards.all.iter().map(len).sum());
        f.debug_struct("Pool").field("kept", &kept).finish_non_exhaustive()
    }
}
