//! The scheduler under gorun: it moves goroutines, the crate above moves values.
//!
//! A tour in the order in which a goroutine meets the files; README.md has the glossary and one goroutine's life.
//!
//! * `config`, `unwind`, `atomics`: settings and errors, how a goroutine is unwound, the door to atomics.
//! * `memory`: the arena, guard pages, the overflow report. `coroutine`: a stack with a coroutine in it.
//! * `goroutine`: the control block, its slab, its storage record (`storage`), its end (`completion`).
//! * `spawn`: from an erased closure to a runnable goroutine.
//! * `processor`, `inbox`, `idle`, `timers`, `shared`: what a worker owns and what workers share.
//! * `worker`: find → resume → settle. `park`, `claim_word`, `wait_queue`, `ready`: how one waits and is woken.
//! * `io`: descriptors whose operations park the goroutine.
//! * `exit`: the trampoline's return target and the exit path. `monitor`, `scheduler`: the whole.
//!
//! This crate is the runtime of gorun and has no stable interface of its own.
//!
//! # Examples
//! Those of single functions hide what all of them need (`examples.txt`): a two-worker `SCHEDULER`, a `spec()` whose
//! entry runs a boxed closure, the `Job`; `go(f)`, which spawns one, and `join(&handle)`, which waits for its end.

#![warn(clippy::disallowed_types)]

#[cfg(all(any(loom, shuttle), not(feature = "models")))]
compile_error!("gorun's own models are built with `--features models`");

mod base;
mod claim;
mod config;
mod goroutine;
#[cfg(target_os = "linux")]
mod io;
mod memory;
mod processor;
mod queue;
mod runtime;
mod seat;
mod shared_timer;
mod stack;
mod timer;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod tls;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
#[allow(unsafe_code, reason = "stands in for unsafe functions")]
#[path = "tls/absent.rs"]
mod tls;
mod wait;
mod worker;

use crate::processor::core::Processor;
pub use base::process::{PerProcess, process};
pub use base::report::tell;
pub use base::unwind::{Unwound, classify, contained, drop_contained, is_abort, is_goexit, is_panic, unwind_aborted};
pub use claim::async_waiter::Task;
pub use claim::claim_word::{Parker, Token, Wake};
pub use config::{Config, ConfigError, SpawnError, ThreadLocals, blocking_threads};
pub use goroutine::block::{Entry, Goroutine, GoroutineId, PAYLOAD};
pub use goroutine::completion::Completion;
pub use goroutine::current::{known_record, record};
pub use goroutine::goexit::goexit;
pub use goroutine::handle::Handle;
pub use goroutine::storage::*;
#[cfg(target_os = "linux")]
pub use io::{Direction, Source};
pub use memory::StackError;
pub use runtime::scheduler::{LeftBehind, Remote, Scheduler, isolation};
pub use shared_timer::spawner::Spawner;
pub use shared_timer::stopper::Stopper;
pub use shared_timer::timer::{Alarm, Started, Timer, TimerHome, WeakTimer};
pub use stack::coroutine::grow;
pub use timer::clock::Moment;
pub use timer::timers::Rung;
pub use tls::Unsupported;
pub use wait::park::{
    Blocker, WaitReason, breathe, checkpoint, give_way, let_fine_ones_go, unwind_if_ending, yield_now,
};
pub use wait::polls::polled_in_vain;
pub use wait::short_lock::{Note, ShortGuard, ShortLock};
pub use wait::wait_queue::{WaitQueue, Waiter};
pub use worker::fork::{has_forked, note_panic};
pub use worker::lock_thread::{OsThreadLock, lock_os_thread};
pub use worker::metrics::{LongRunning, Metrics};
pub use worker::spawn::{Spec, spawn_here};
pub use worker::thread_start::start_thread;

/// The goroutine that calls, if one does; `None` on a plain thread.
///
/// ```
#[doc = include_str!("examples.txt")]
/// assert!(current_goroutine().is_none());
/// join(&go(|| assert_eq!(current_goroutine().unwrap().name(), Some("example"))));
/// ```
#[must_use]
pub fn current_goroutine() -> Option<Handle> {
    goroutine::current::goroutine().map(Handle::of)
}

/// Returns true if a goroutine calls, and not a plain thread.
///
/// ```
#[doc = include_str!("examples.txt")]
/// assert!(!in_goroutine());
/// join(&go(|| assert!(in_goroutine())));
/// ```
#[inline]
#[must_use]
pub fn in_goroutine() -> bool {
    goroutine::current::goroutine().is_some()
}

/// A number that goroutines of one processor have in common, for who keeps something by processor; of a plain thread its
/// own. The goroutine may be on another processor by the time it is used.
///
/// ```
/// let caches: [&str; 4] = ["a", "b", "c", "d"];
/// let mine = caches[gorun_scheduler::processor_hint() % caches.len()];
/// assert!(caches.contains(&mine));
/// ```
#[inline]
#[must_use]
pub fn processor_hint() -> usize {
    match Processor::current() {
        Some(processor) => processor.index,
        // The low bits will do.
        None => current_id().map_or(0, |id| id.get() as usize),
    }
}

/// Takes what the calling plain thread has stored through the exit path: handlers, then storage. The thread may store
/// again afterwards. For threads that work for one caller after another; does nothing in a goroutine. Does not unwind: called
/// while a closure looks at a typed value, which would be dropped under it, it aborts the process with a message.
///
/// ```
/// use gorun_scheduler::{end_thread_storage, record};
/// // SAFETY: the record is ours, and stays while we run.
/// let record = unsafe { record().unwrap().as_ref() };
/// let (tx, rx) = std::sync::mpsc::channel();
/// record.at_exit(move || tx.send("over").unwrap());
/// end_thread_storage(); // one caller's job is done
/// assert_eq!(rx.recv(), Ok("over"));
/// assert!(record.is_empty());
/// ```
#[allow(unsafe_code, reason = "reads the current record")]
pub fn end_thread_storage() {
    if !in_goroutine()
        && let Some(record) = record()
    {
        // SAFETY: the record is the caller's own and stays while it runs (T2).
        unsafe { record.as_ref() }.end_use();
    }
}

/// The number of the calling goroutine or plain thread. `None` on a thread whose record is gone.
///
/// ```
#[doc = include_str!("examples.txt")]
/// let mine = current_id().unwrap();
/// assert_eq!(current_id(), Some(mine));
/// join(&go(move || assert_ne!(current_id(), Some(mine))));
/// ```
#[must_use]
#[allow(unsafe_code, reason = "reads the current record")]
pub fn current_id() -> Option<GoroutineId> {
    // SAFETY: the record is the caller's own and stays while it runs (T2).
    record().map(|record| GoroutineId::new(unsafe { record.as_ref() }.id()))
}

/// The document's programs, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
