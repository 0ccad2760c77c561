//! The scheduler under [gorun](https://docs.rs/gorun): it moves goroutines, the crate above moves values.
//!
//! A tour in the order in which a goroutine meets the files; README.md has the glossary and one goroutine's life.
//!
//! * `config`, `unwind`, `shim`: settings and errors, how a goroutine is unwound, the door to atomics.
//! * `stack`: the arena, guard pages, the overflow report. `carrier`: a stack with a coroutine in it.
//! * `goroutine`: the control block, its slab, its storage record (`locals`), its end (`completion`).
//! * `spawn`: from an erased closure to a runnable goroutine.
//! * `processor`, `inbox`, `idle`, `timers`, `shared`: what a worker owns and what workers share.
//! * `worker`: find → resume → settle. `park`, `parker`, `wait_queue`, `ready`: how one waits and is woken.
//! * `exit`: the trampoline's return target and the exit path. `monitor`, `scheduler`: the whole.
//!
//! This crate is the runtime of gorun and has no stable interface of its own.

mod asymmetric;
mod carrier;
mod config;
mod current;
mod exit;
mod goroutine;
mod idle;
mod inbox;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod isolated;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
#[path = "isolated/absent.rs"]
mod isolated;
mod lock_thread;
mod metrics;
mod monitor;
mod next_slot;
mod park;
mod parker;
mod processor;
mod ready;
mod run_queue;
mod scheduler;
mod seats;
mod shared;
mod shim;
mod short_lock;
mod spares;
mod spawn;
mod stack;
mod task;
mod timers;
mod unwind;
mod wait_queue;
mod worker;

pub use carrier::grow;
pub use config::{Config, ConfigError, SpawnError, ThreadLocals};
pub use current::record;
pub use goroutine::*;
pub use isolated::{Unsupported, isolation};
pub use lock_thread::{OsThreadLock, lock_os_thread};
pub use metrics::{LongRunning, Metrics};
pub use park::{Blocker, WaitReason, breathe, checkpoint, yield_now};
pub use parker::{Parker, Token, Wake};
pub use scheduler::{LeftBehind, Remote, Scheduler};
pub use short_lock::{ShortGuard, ShortLock};
pub use spawn::{Spec, spawn_here};
pub use stack::StackError;
pub use task::Task;
pub use timers::{Alarm, Rung, Spawner, Stopper, Timer, WeakTimer};
pub use unwind::{Unwound, classify, goexit, is_panic, unwind_aborted};
pub use wait_queue::{WaitQueue, Waiter};

/// The goroutine that calls, if one does.
#[must_use]
pub fn current_goroutine() -> Option<Handle> {
    current::goroutine().map(Handle::of)
}

/// Whether a goroutine calls.
#[inline]
#[must_use]
pub fn in_goroutine() -> bool {
    current::goroutine().is_some()
}

/// A number that goroutines of one processor have in common, for who keeps something by processor; of a plain thread its
/// own. The goroutine may be on another processor by the time it is used.
#[inline]
#[must_use]
pub fn processor_hint() -> usize {
    match current::processor() {
        Some(processor) => processor.index,
        // The low bits will do.
        None => current_id().map_or(0, |id| id.get() as usize),
    }
}

/// Takes what the calling plain thread has stored through the exit path: handlers, then storage. The thread may store
/// again afterwards. For threads that work for one caller after another; does nothing in a goroutine. Does not unwind.
pub fn end_thread_storage() {
    if !in_goroutine()
        && let Some(record) = record()
    {
        // SAFETY: the record is the caller's own and stays while it runs (T2).
        unsafe { record.as_ref() }.run_exit();
    }
}

/// The number of the calling goroutine or plain thread. `None` on a thread whose record is gone.
#[must_use]
pub fn current_id() -> Option<GoroutineId> {
    // SAFETY: the record is the caller's own and stays while it runs (T2).
    record().map(|record| GoroutineId::new(unsafe { record.as_ref() }.id()))
}

/// The document's programs, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
