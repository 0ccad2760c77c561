//! The one door to atomics and locks, so that model checkers can stand in for std.
//!
//! Under `--cfg loom` the deciders (`claim_word`, `idle`, `inbox`, `next_slot`, `deque`, `seat_bitmap`, `bias`, `short_lock`,
//! `goroutine/completion`, `goroutine/refs`) run on loom's atomics, by way of `atomics/models`, which says what SeqCst accesses and asymmetric fences are
//! there; everything else uses std's.
//!
//! Under `--cfg shuttle` the claim word and the parking of plain threads are shuttle's: enough for whole primitives between
//! shuttle's threads (`tests/shuttle`). No scheduler runs there, so the locks stay std's.

#[cfg(not(loom))]
pub(crate) use crossbeam_utils::Backoff;
pub(crate) use crossbeam_utils::CachePadded;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(loom)]
pub(crate) mod models;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{Ordering, fence};
#[cfg(loom)]
pub(crate) use models::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, ModelledLock};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::thread::{
    Thread, current as current_thread, park as park_thread, park_timeout as park_thread_timeout,
};

#[cfg(loom)]
pub(crate) use loom::thread::{Thread, current as current_thread, park as park_thread};

#[cfg(shuttle)]
pub(crate) use shuttle::thread::{Thread, current as current_thread, park as park_thread};

/// In a model the time is over whenever it is looked at.
#[cfg(any(loom, shuttle))]
pub(crate) fn park_thread_timeout(_timeout: std::time::Duration) {
    unreachable!("a model's times are over");
}

/// For `short_lock` and `bias`.
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::{Condvar, Mutex};

#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex};

use crate::base::errno::keeping_errno;
use std::sync::{MutexGuard, PoisonError, TryLockError};

/// Where models have more than one thread at it.
#[cfg(not(loom))]
pub(crate) type ModelledLock<T> = Lock<T>;
#[cfg(loom)]
pub(crate) use loom::sync::Condvar as ModelledCondvar;
/// For those locks.
#[cfg(not(loom))]
pub(crate) use std::sync::Condvar as ModelledCondvar;

/// What a bounded wait does between two looks.
#[cfg(loom)]
pub(crate) struct Backoff;

#[cfg(loom)]
impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff
    }
    pub(crate) fn snooze(&self) {
        loom::thread::yield_now();
    }
}

/// A lock for the few lines in which the scheduler changes a queue. Never held while user code runs, never
/// over a suspension, so a poisoned state can't be seen half-changed and is ignored.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(std::sync::Mutex<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock(std::sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        match self.0.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => self.wait(),
        }
    }

    /// A worker takes locks with the thread-locals of a goroutine loaded that knows nothing of it, its `errno` among them;
    /// and there the kernel says it when the lock was released while it was asked to wait.
    #[cold]
    #[inline(never)]
    fn wait(&self) -> MutexGuard<'_, T> {
        keeping_errno(|| self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
