//! The scheduler under gorun: it moves goroutines, the crate above moves values.
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
//!
//! # Examples
//! Those of single functions hide what all of them need (`examples.txt`): a two-worker `SCHEDULER`, a `spec()` whose
//! entry runs a boxed closure, the `Job`; `go(f)`, which spawns one, and `join(&handle)`, which waits for its end.

#![warn(clippy::disallowed_types)]

#[cfg(all(any(loom, shuttle), not(feature = "models")))]
compile_error!("gorun's own models are built with `--features models`");

#[allow(unsafe_code, reason = "a system call")]
mod asymmetric;
mod bias;
#[allow(unsafe_code, reason = "the switch itself")]
mod carrier;
mod config;
mod crew;
#[allow(unsafe_code, reason = "who runs here, by pointer")]
mod current;
#[allow(unsafe_code, reason = "buffers by pointer, and elements that are not null")]
mod deque;
mod doubt;
mod eagerness;
#[allow(unsafe_code, reason = "runs and drops the payload")]
mod exit;
#[allow(unsafe_code, reason = "an instruction")]
mod fetch;
#[allow(unsafe_code, reason = "instructions that store and load two registers")]
mod float_control;
#[allow(unsafe_code, reason = "guards kept from one call of libc's to the next")]
mod fork;
#[allow(unsafe_code, reason = "shared blocks whose fields have one owner at a time")]
mod goroutine;
mod grain;
mod idle;
#[allow(unsafe_code, reason = "a stack linked through the blocks")]
mod inbox;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod isolated;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
#[allow(unsafe_code, reason = "stands in for unsafe functions")]
#[path = "isolated/absent.rs"]
mod isolated;
mod lock_thread;
mod marks;
#[allow(unsafe_code, reason = "the running goroutine of each worker, by pointer")]
mod metrics;
#[allow(unsafe_code, reason = "the running goroutine of each worker, by pointer")]
mod monitor;
#[allow(unsafe_code, reason = "a goroutine in a word")]
mod next_slot;
mod pace;
#[allow(unsafe_code, reason = "a goroutine's claim word, by pointer")]
mod park;
#[allow(unsafe_code, reason = "claims reach the waiter by pointer")]
mod parker;
mod polls;
#[allow(unsafe_code, reason = "has libc call us around forks; values that are never freed")]
mod process;
#[allow(unsafe_code, reason = "carriers and seats by pointer")]
mod processor;
#[allow(unsafe_code, reason = "the runtime of a goroutine, by pointer")]
mod ready;
mod replacing;
#[allow(unsafe_code, reason = "goroutines by pointer")]
mod run_queue;
#[allow(unsafe_code, reason = "passes the erased closure on")]
mod scheduler;
mod seats;
mod shared;
mod shim;
#[allow(unsafe_code, reason = "a value behind a lock of its own")]
mod short_lock;
mod spares;
#[allow(unsafe_code, reason = "passes the erased closure on")]
mod spawn;
#[allow(unsafe_code, reason = "maps memory, sets guard pages, handles a signal; its tests too")]
mod stack;
mod starter;
#[allow(unsafe_code, reason = "from the claim word back to the task")]
mod task;
#[allow(unsafe_code, reason = "a system call")]
mod tell;
#[allow(unsafe_code, reason = "system calls")]
mod thread_clock;
#[allow(unsafe_code, reason = "timers by pointer: on waiters' stacks, and shared ones without their type")]
mod timers;
mod unwind;
#[allow(unsafe_code, reason = "a list through the waiters' stacks")]
mod wait_queue;
#[allow(unsafe_code, reason = "owns free carriers by pointer")]
mod warm;
#[allow(unsafe_code, reason = "resumes what it owns")]
mod worker;

pub use carrier::grow;
pub use config::{Config, ConfigError, SpawnError, ThreadLocals, blocking_threads};
pub use current::{known_record, record};
pub use fork::{has_forked, note_panic};
pub use goroutine::*;
pub use isolated::Unsupported;
pub use lock_thread::{OsThreadLock, lock_os_thread};
pub use metrics::{LongRunning, Metrics};
pub use park::{Blocker, WaitReason, breathe, checkpoint, give_way, let_fine_ones_go, unwind_if_ending, yield_now};
pub use parker::{Parker, Token, Wake};
pub use polls::polled_in_vain;
pub use process::{PerProcess, process};
pub use scheduler::{LeftBehind, Remote, Scheduler, isolation};
pub use short_lock::{Note, ShortGuard, ShortLock};
pub use spawn::{Spec, spawn_here};
pub use stack::StackError;
pub use starter::start_thread;
pub use task::Task;
pub use tell::tell;
pub use timers::{Alarm, Moment, Rung, Spawner, Started, Stopper, Timer, TimerHome, WeakTimer};
pub use unwind::{Unwound, classify, contained, drop_contained, goexit, is_abort, is_goexit, is_panic, unwind_aborted};
pub use wait_queue::{WaitQueue, Waiter};

/// The goroutine that calls, if one does; `None` on a plain thread.
///
/// ```
#[doc = include_str!("examples.txt")]
/// assert!(current_goroutine().is_none());
/// join(&go(|| assert_eq!(current_goroutine().unwrap().name(), Some("example"))));
/// ```
#[must_use]
pub fn current_goroutine() -> Option<Handle> {
    current::goroutine().map(Handle::of)
}

/// Whether a goroutine calls, and not a plain thread.
///
/// ```
#[doc = include_str!("examples.txt")]
/// assert!(!in_goroutine());
/// join(&go(|| assert!(in_goroutine())));
/// ```
#[inline]
#[must_use]
pub fn in_goroutine() -> bool {
    current::goroutine().is_some()
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
    match current::processor() {
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
