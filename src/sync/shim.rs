//! The one door to atomics and locks for what decides in `sync`, so that the model checker can stand in for std.
//!
//! Under `--cfg loom` the primitives run on loom's atomics and locks, and their waiters are loom's threads (the scheduler's
//! shim sees to that). loom has no constants of its types, and these primitives are made in constants, so there each is
//! made at its first use: a model runs on one OS thread.
//!
//! Under `--cfg shuttle` all of them, channels too, run on shuttle's (`tests/shuttle`). It has constants.

#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::atomic::AtomicU32;
#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic::AtomicUsize;
pub(crate) use std::sync::atomic::Ordering;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicU8};

/// Created where they are used, by contexts.
#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU8};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU32, AtomicUsize},
};

/// A `usize` that loom knows too.
#[cfg(not(loom))]
pub(crate) type AtomicCount = AtomicUsize;
#[cfg(loom)]
pub(crate) use model::AtomicCount;

use std::time::{Duration, Instant};

/// How long one waits for a lock before it has starved: Go's figure.
const STARVED: Duration = Duration::from_millis(1);

/// Returns true if somebody who has waited since then is to be handed the lock. A model says so by [`model::STARVING`].
pub(super) fn has_starved(since: Instant) -> bool {
    #[cfg(loom)]
    return since.elapsed() > STARVED * 1_000_000 || model::STARVING.load(Ordering::SeqCst);
    #[cfg(shuttle)]
    return since.elapsed() > STARVED * 1_000_000 || shuttle::rand::Rng::r#gen(&mut shuttle::rand::thread_rng());
    #[cfg(not(any(loom, shuttle)))]
    return since.elapsed() > STARVED;
}

/// As [`crate::sync::poison::lock`].
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A lock for the few lines in which a primitive changes its queues. Never held over a wait or user code, so a poisoned
/// state can't be seen half-changed.
#[cfg(not(loom))]
#[derive(Debug, Default)]
pub(super) struct Lock<T>(Mutex<T>);

#[cfg(not(loom))]
impl<T> Lock<T> {
    pub(super) const fn new(value: T) -> Lock<T> {
        Lock(Mutex::new(value))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        lock(&self.0)
    }
}

#[cfg(loom)]
pub(super) use model::Lock;

#[cfg(loom)]
pub(crate) use model::AtomicU32;

#[cfg(loom)]
pub(super) mod model {
    //! loom's, made at their first use.

    use super::Ordering;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicBool;

    /// True if waiters count as starved.
    pub(crate) static STARVING: AtomicBool = AtomicBool::new(false);

    macro_rules! atomic {
        ($name:ident, $atomic:ident, $int:ident) => {
            #[derive(Debug)]
            pub(crate) struct $name(OnceLock<loom::sync::atomic::$atomic>, $int);

            #[allow(dead_code, reason = "each is used in part")]
            impl $name {
                pub(crate) const fn new(value: $int) -> $name {
                    $name(OnceLock::new(), value)
                }

                fn inner(&self) -> &loom::sync::atomic::$atomic {
                    self.0.get_or_init(|| loom::sync::atomic::$atomic::new(self.1))
                }

                pub(crate) fn load(&self, order: Ordering) -> $int {
                    self.inner().load(order)
                }

                pub(crate) fn store(&self, value: $int, order: Ordering) {
                    self.inner().store(value, order);
                }

                pub(crate) fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                    self.inner().fetch_add(value, order)
                }

                pub(crate) fn fetch_sub(&self, value: $int, order: Ordering) -> $int {
                    self.inner().fetch_sub(value, order)
                }

                pub(crate) fn fetch_and(&self, value: $int, order: Ordering) -> $int {
                    self.inner().fetch_and(value, order)
                }

                pub(crate) fn fetch_or(&self, value: $int, order: Ordering) -> $int {
                    self.inner().fetch_or(value, order)
                }

                pub(crate) fn compare_exchange(
                    &self,
                    old: $int,
                    new: $int,
                    won: Ordering,
                    lost: Ordering,
                ) -> Result<$int, $int> {
                    self.inner().compare_exchange(old, new, won, lost)
                }

                pub(crate) fn compare_exchange_weak(
                    &self,
                    old: $int,
                    new: $int,
                    won: Ordering,
                    lost: Ordering,
                ) -> Result<$int, $int> {
                    // A model with failures out of nothing never ends.
                    self.inner().compare_exchange(old, new, won, lost)
                }
            }
        };
    }

    atomic!(AtomicU32, AtomicU32, u32);
    atomic!(AtomicCount, AtomicUsize, usize);

    #[derive(Debug)]
    pub(crate) struct Lock<T> {
        first: std::sync::Mutex<Option<T>>,
        inner: OnceLock<loom::sync::Mutex<T>>,
    }

    impl<T> Lock<T> {
        pub(crate) const fn new(value: T) -> Lock<T> {
            Lock { first: std::sync::Mutex::new(Some(value)), inner: OnceLock::new() }
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            let first = || crate::sync::poison::lock(&self.first).take().expect("not made yet");
            let inner = self.inner.get_or_init(|| loom::sync::Mutex::new(first()));
            inner.lock().unwrap()
        }
    }

    impl<T: Default> Default for Lock<T> {
        fn default() -> Lock<T> {
            Lock::new(T::default())
        }
    }
}
