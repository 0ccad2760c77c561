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
//! * [`channel`], [`select!`], [`sync`], [`time`]: what they wait on. All of it also works from plain threads.
//! * `net` (Linux): sockets that park the goroutine.
//! * [`context`]: cancellation, deadlines and values that travel with a request.
//! * [`blocking`], [`grow`]: calls that hold a thread, calls that need a deep stack.
//! * [`runtime`]: separate runtimes, start and shutdown.
//!
//! `docs/porting-from-go.md`, in this package, lists every construct of Go's concurrency beside gorun's.
//!
//! # Thread-locals
//!
//! Where it can be had (x86-64 Linux with glibc; see [`runtime::isolation`]) a goroutine is *isolated*: it has
//! thread-locals of its own, and to every library it is a thread. A borrow of a `thread_local!`, a lock guard, an
//! entered span may be held over any wait, and the goroutine may go on on another worker.
//!
//! Elsewhere, or by choice ([`Builder::thread_locals`]), it is *pinned*: once it has begun it stays on its worker's
//! thread, so a thread-local it looks at never changes its thread. Goroutines of one worker interleave on that thread:
//! a `RefCell` in a plain `thread_local!` that is borrowed over a blocking call meets its neighbours, and a
//! `thread_local!` initialiser must not block. Use [`goroutine_local!`] for what belongs to the goroutine.
//!
//! # Never stuck
//!
//! A goroutine that computes for long, or blocks in the kernel, holds up nobody for more than some 20 ms: then another
//! worker thread takes over what its worker had to do (pinned goroutines that had begun there excepted: they have nowhere
//! else to go). See
//! [`runtime::Builder::spare_workers`]; [`blocking`] is for those who want to be explicit, [`lock_os_thread`] for code
//! that needs a thread to itself.

#![warn(clippy::disallowed_types)]

#[cfg(all(any(loom, shuttle), not(feature = "models")))]
compile_error!("gorun's own models are built with `--features models`");

#[allow(unsafe_code, reason = "the job lies on the stack of its waiting caller")]
mod blocking;
pub mod chan;
pub mod context;
mod default_runtime;
#[allow(unsafe_code, reason = "hands a closure to the scheduler with its type erased")]
mod go;
#[allow(unsafe_code, reason = "the payload is a closure, then a result; both without their type below")]
mod join;
pub mod local;
#[cfg(target_os = "linux")]
pub mod net;
#[allow(unsafe_code, reason = "run lends its caller's borrows to the main goroutine")]
pub mod runtime;
#[allow(unsafe_code, reason = "goroutines with borrows, which end before the scope does")]
mod scope;
pub mod select;
pub mod sync;
pub mod time;
mod unwinding;

pub use blocking::{blocking, set_blocking_threads};
pub use chan::{Receiver, Sender, channel, never, unbounded};
pub use go::{Builder, Goroutine, current, go, id, num_goroutines};
pub use gorun_scheduler::{GoroutineId, OsThreadLock, SpawnError, StackError, goexit, yield_now};
pub use join::{JoinError, JoinHandle};
pub use local::at_exit;
pub use runtime::run;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use unwinding::{is_abort, is_goexit, is_panic};

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
///
/// ```
/// assert_eq!(gorun::try_grow(1 << 20, || 7), Ok(7));
/// assert!(gorun::try_grow(usize::MAX, || 7).is_err());
/// ```
pub fn try_grow<R>(bytes: usize, f: impl FnOnce() -> R) -> Result<R, StackError> {
    gorun_scheduler::grow(bytes, f)
}

/// Keeps the calling goroutine on the OS thread it runs on, and other goroutines off it, until the guard is dropped:
/// Go's [`runtime.LockOSThread`](https://pkg.go.dev/runtime#LockOSThread), for GUI, GL and namespace code.
///
/// Another worker takes over what the thread had to do, so the others do not notice. Locks nest. A goroutine that ends with
/// a guard forgotten takes its thread along; a guard that another goroutine drops (from a std thread-local that pinned
/// goroutines share) counts as forgotten. Pinned goroutines that had begun on this thread go on there, too: they can go
/// nowhere else. On a plain thread this does nothing.
///
/// While it is locked, the goroutine has its thread's id in pthread mutexes that know their owner (recursive, error-checking,
/// robust, with priority inheritance): take those after this call, and release them before the guard is dropped.
///
/// # Panics
/// When a goroutine holds 65,535 guards.
///
/// ```
/// gorun::run(|| {
///     let thread = || std::fs::read_link("/proc/thread-self").ok();
///     let locked = gorun::lock_os_thread();
///     let before = thread();
///     gorun::yield_now();
///     assert_eq!(thread(), before);
///     drop(locked);
/// });
/// ```
pub fn lock_os_thread() -> OsThreadLock {
    gorun_scheduler::lock_os_thread()
}

/// The documents' programs, compiled and run.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../ARCHITECTURE.md")]
    struct Architecture;
    #[doc = include_str!("../DESIGN.md")]
    struct Design;
    #[doc = include_str!("../docs/porting-from-go.md")]
    struct PortingFromGo;
    #[doc = include_str!("../docs/types.md")]
    struct Types;
}
