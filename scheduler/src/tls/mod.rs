//! A thread-local block of its own for each goroutine: what lets a started goroutine change threads.
//!
//! To Rust and to libc a thread is what the FS base points at: the *thread control block*, with the thread-locals of
//! all loaded libraries below it. An isolated goroutine has one of its own, at the top of its stack slot; the worker
//! loads it before it resumes the goroutine ([`Loaded`]). So a `thread_local!` is the goroutine's, wherever it runs.
//! Made and used by `coroutine` and `worker`; `exit` runs the destructors ([`Block::run_destructors`]).
//!
//! ```text
//!   lower ◀                                                               FS base
//!   frames … │ carrier │ reserve │ … │ libc's segment │ the program's segment │ thread control block │ top of slot
//! ```
//!
//! * **F1, one thread at a time.** A block is loaded by one thread only. The worker loads the block of a goroutine
//!   that it owns (G1), and takes up another one before it lets go of the goroutine: before a parked one is committed,
//!   a yielding one queued, or a carrier freed.
//! * **F2, no function sees two blocks.** The compiler takes a thread-local's address for a constant of the function.
//!   So code in whose frame a block is loaded, inlined callees included, touches no thread-local: [`Loaded::switch`] is
//!   called by the worker's own loop only, and what that loop calls and may touch one is not inlined. On a goroutine's
//!   own stack the block is always the same.
//! * **F3, fresh for each goroutine.** When a goroutine ends, the destructors run on its own stack, and the segments of
//!   all libraries but libc go back to their initial images. libc's stays, as it would with a pooled thread, and so do the
//!   keys of std's hash maps (`hash_keys`).
//! * **F4, malloc travels with the worker.** The two words by which glibc's malloc finds its cache and its arena are
//!   carried from the block that was loaded to the next one. malloc never suspends, so to it this is the thread it
//!   always was; a goroutine costs no cache of its own, and a block can be thrown away.
//!
//! What glibc must have for this is found out once, in a helper thread with a known stack ([`layout`]), tried on a
//! throw-away block (`self_test`), and refused with a reason where anything looks unfamiliar.

mod availability;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod block;
mod error;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod explore;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod fork;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod fsbase;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod glibc;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod hash_keys;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod layout;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod modules;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod probe;
mod random_state;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
#[cfg(test)]
mod refusals;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod self_test;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod setxid;
#[allow(unsafe_code, reason = "thread-local blocks by address, glibc's own functions")]
mod thread_ids;
mod verdict;

pub(crate) use availability::layout;
#[cfg(all(test, not(loom), not(shuttle)))]
pub(crate) use block::REFUSED_TO;
pub(crate) use block::{Block, KeyRounds, Loaded};
pub(crate) use error::Refusal;
pub use error::Unsupported;
pub(crate) use fork::{after_fork, before_fork};
pub(crate) use layout::Layout;
pub(crate) use thread_ids::begin as begin_ids;
pub(crate) use verdict::known;
