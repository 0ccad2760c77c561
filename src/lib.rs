//! Go's concurrency for Rust: goroutines with storage in their control block.
//!
//! ```
//! let sum = gorun::run(|| {
//!     let (tx, rx) = gorun::channel(0);
//!     for n in 1..=3 {
//!         let tx = tx.clone();
//!         gorun::go(move || tx.send(n * n).unwrap());
//!     }
//!     drop(tx);
//!     rx.iter().sum::<i32>()
//! });
//! assert_eq!(sum, 14);
//! ```
//!
//! * [`go`], [`run`], [`scope`], [`Builder`]: goroutines. They are stackful: any function may block in them.
//! * [`local`]: storage of a goroutine's own, with at-exit handlers, cleaned up on every way out.
//! * [`channel`], [`sync`], [`time`]: what they wait on. All of it also works from plain threads.
//! * [`blocking`], [`grow`]: calls that hold a thread, calls that need a deep stack.
//! * [`runtime`]: separate runtimes, start and shutdown.
//!
//! # Thread-locals
//!
//! A goroutine that has not begun may be taken by any worker; once it has begun it stays on its worker's thread,
//! so a thread-local it looks at never changes its thread. Goroutines of one worker interleave on that thread:
//! a `RefCell` in a plain `thread_local!` that is borrowed over a blocking call meets its neighbours, and a
//! `thread_local!` initialiser must not block. Use [`goroutine_local!`] for what belongs to the goroutine.

mod blocking;
pub mod chan;
pub mod context;
mod go;
mod join;
pub mod local;
pub mod runtime;
mod scope;
pub mod sync;
pub mod time;

pub use blocking::blocking;
pub use chan::{Receiver, Sender, channel, never, unbounded};
pub use go::{Builder, Goroutine, current, go, id, num_goroutines};
pub use gorun_scheduler::{GoroutineId, SpawnError, StackError, goexit, yield_now};
pub use join::{JoinError, JoinHandle};
pub use local::at_exit;
pub use runtime::run;
pub use scope::{Scope, ScopedJoinHandle, scope};

/// Runs `f` on a stack of at least `bytes` bytes and returns what it returns.
///
/// For deep recursion in a goroutine whose stack is otherwise small; works from plain threads too. `f` may
/// block, and its panic goes on in the caller. The stack goes back afterwards, pages and all.
///
/// # Panics
/// When no such stack can be had; the text says why and what to do. [`try_grow`] gives an error instead.
///
/// ```
/// fn depth(n: u32) -> u32 { if n == 0 { 0 } else { std::hint::black_box(1 + depth(n - 1)) } }
/// let deep = gorun::go(|| gorun::grow(64 << 20, || depth(100_000)));
/// assert_eq!(deep.join().unwrap(), 100_000);
/// ```
pub fn grow<R>(bytes: usize, f: impl FnOnce() -> R) -> R {
    match try_grow(bytes, f) {
        Ok(result) => result,
        Err(error) => panic!("gorun::grow: {error}"),
    }
}

/// As [`grow`], with an error when there is no such stack.
///
/// # Errors
/// [`StackError`] when the size is out of range or the address space is used up; `f` is not run then.
pub fn try_grow<R>(bytes: usize, f: impl FnOnce() -> R) -> Result<R, StackError> {
    gorun_scheduler::grow(bytes, f)
}

/// The README's programs, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
