//! Goroutine-local storage: typed keys, a dynamic map, and at-exit handlers, in the goroutine's control block.
//!
//! * [`goroutine_local!`](crate::goroutine_local) declares keys: each goroutine has its own value, initialised when it
//!   first looks. [`LocalKey`] has the surface of `std::thread::LocalKey`, and more.
//! * [`set`], [`get`], [`with`], [`take`], [`del`]: values under any key that is `Hash + Eq`, as go-tls has them.
//! * [`at_exit`]: runs when the goroutine ends, on its own stack, however it ends.
//!
//! From a plain thread the same calls use that thread's own storage, which goes through the same exit path when the
//! thread ends (for the main thread: as far as the platform runs destructors of thread-locals there).
//!
//! # The exit path
//! On return, panic, [`goexit`](crate::goexit), abort and runtime shutdown, in this order: handlers, last in first out,
//! with all storage there to read and write; they may block, spawn, and add handlers and values. Then the values, in
//! reverse order of initialisation; a destructor may store again, which is dropped in a further round, up to 8
//! (after that stores are refused, which is reported once). Then the result is published. While its destructor runs and
//! until the round is over a typed key can't be accessed ([`AccessError`]); the dynamic map is empty from the
//! first destructor of a round on. A panic in a handler or destructor is reported by the panic hook, and the rest
//! still runs. A goroutine that stored nothing and has no handler skips all this: its return target is not patched.

mod dynamic;
mod error;
mod key;
mod macros;

pub use dynamic::{at_exit, contains, del, get, id, reset, set, take, unload, with};
pub use error::AccessError;
pub use gorun_scheduler::{cleaning_exits, exit_overruns, exit_panics};
pub use key::LocalKey;

/// What `goroutine_local!` expands to needs these.
#[doc(hidden)]
pub mod __private {
    pub use gorun_scheduler::{Locals, ValueKind};
}
