//! Synchronisation for goroutines and plain threads alike: nobody's worker is ever blocked by a wait.
//!
//! | to | use | Go's |
//! |---|---|---|
//! | have one at a time in a piece of code | [`Mutex`] | `sync.Mutex` |
//! | have many read, or one write | [`RwLock`] | `sync.RWMutex` |
//! | wait until something has changed | [`Condvar`], with a [`Mutex`] | `sync.Cond` |
//! | wait for a number of goroutines | [`WaitGroup`] | `sync.WaitGroup` |
//! | the same, with the first error, a limit, a context | [`ErrGroup`] | `x/sync/errgroup` |
//! | do something once | [`Once`], [`once_func`] | `sync.Once`, `sync.OnceFunc` |
//! | make a value once | [`OnceLock`], [`LazyLock`], [`once_value`] | `sync.OnceValue` |
//! | limit how many do something | [`Semaphore`] | `x/sync/semaphore` |
//! | have many go on together | [`Barrier`] | |
//! | use buffers again | [`Pool`] | `sync.Pool` |
//! | have one fetch for all | [`SingleFlight`] | `x/sync/singleflight` |
//! | hand values over | [`channel`](crate::channel) | channels |
//! | change a number | [`atomic`], std's | `sync/atomic` |
//!
//! For `sync.Map` take a [`RwLock`] around a map, or a map made for it from crates.io; do not keep such a map's locks over
//! a wait.
//!
//! A `lock`, a `wait` or an `acquire` is a cancellation point where it has to wait: an abort unwinds, and what was waited
//! for stays with the others. Nothing is poisoned by a panic but what was to be done [once](Once). Where a notification, an
//! unlock, a release ends a wait it happens before the return of that.

mod barrier;
#[allow(unsafe_code, reason = "waiters on the stack; a mutex unlocked behind its guard")]
mod condvar;
#[allow(unsafe_code, reason = "waiters on the stack; a spawn with an end of its own")]
mod err_group;
mod lazy_lock;
#[cfg(all(test, loom))]
#[allow(unsafe_code, reason = "what the models look into")]
mod models;
#[allow(unsafe_code, reason = "makes guards where the lock was taken")]
mod mutex;
mod once;
#[allow(unsafe_code, reason = "the value behind the Once")]
mod once_lock;
mod poison;
mod pool;
#[allow(unsafe_code, reason = "waiters on the stack; lock_api's contract")]
mod raw_mutex;
#[allow(unsafe_code, reason = "waiters on the stack; lock_api's contract")]
mod raw_rwlock;
#[allow(unsafe_code, reason = "makes guards where the lock was taken")]
mod rwlock;
mod semaphore;
pub(crate) mod shim;
mod single_flight;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
#[allow(unsafe_code, reason = "waiters on the stack")]
mod wait;
#[allow(unsafe_code, reason = "waiters on the stack; a spawn with an end of its own")]
mod wait_group;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use err_group::ErrGroup;
pub use lazy_lock::{LazyLock, once_func, once_value};
pub use mutex::{MappedMutexGuard, Mutex, MutexGuard};
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use pool::Pool;
pub use raw_mutex::RawMutex;
pub use raw_rwlock::RawRwLock;
pub use rwlock::{MappedRwLockReadGuard, MappedRwLockWriteGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use single_flight::SingleFlight;
/// std's atomics, which are what Go's `sync/atomic` is: they never wait.
pub use std::sync::atomic;
pub use wait_group::WaitGroup;

pub(crate) use poison::lock;
