//! Storage of a goroutine's own: typed keys, dynamic keys, at-exit handlers.
//!
//! Every goroutine carries a record inside its control block; a plain thread has one too, and everything here works
//! from both. What is stored stays with its goroutine, so it need not be `Send`. On every way out (return, panic,
//! [`goexit`](crate::goexit), abort, shutdown of the runtime) the goroutine, on its own stack,
//!
//! 1. runs its at-exit handlers, last in first out, with all storage readable and writable,
//! 2. drops its storage in the reverse order of initialisation, typed and dynamic in one order,
//! 3. and again, if handlers or destructors registered or stored more: 8 rounds, then storing is refused, once
//!    reported, and the rest dropped.
//!
//! Only then is its result visible to `join`. A panic in a handler or destructor is reported by the panic hook, and
//! the rest still run. A goroutine that never stores pays nothing for all this: the first use patches its exit.
//!
//! * [`goroutine_local!`](crate::goroutine_local) declares typed keys; [`LocalKey`] is their surface, std's with
//!   [`scope`](LocalKey::scope) and inheritance.
//! * [`set`], [`get`], [`with`](fn@with), [`contains`], [`del`], [`take`]: dynamic keys of any hashable type.
//! * [`at_exit`], [`reset`], [`unload`], [`id`].
//!
//! # Coming from go-tls
//!
//! | go-tls | here | and |
//! |---|---|---|
//! | `Set(k, MakeData(v))` | [`set`] | the value that is replaced is dropped (there: never closed) |
//! | `Get(k)` | [`get`], [`with`](fn@with), [`contains`] | typed |
//! | `Del(k)` | [`del`], [`take`] | drops (there: never closed) |
//! | `AtExit(f)` | [`at_exit`] | handlers may add handlers (there: lost); panics are reported (there: vanish) |
//! | `Reset()` | [`reset`] | in reverse order of initialisation (there: random) |
//! | `Unload()` | [`unload`] | destructors and handlers may call it (there: does nothing in a handler) |
//! | `ID()` | [`id`] | never 0, for the main goroutine either; the same after [`unload`] (there: another) |
//! | `io.Closer` | `Drop` | may use storage (there: leaks for ever) |

#[allow(unsafe_code, reason = "values in the record have no type there")]
mod declared;
#[allow(unsafe_code, reason = "the current record, by pointer")]
mod dynamic;
mod error;
#[allow(unsafe_code, reason = "values in the record have no type there")]
mod key;
mod macros;

#[doc(hidden)]
pub use declared::{Key as __Key, Mirror as __Mirror};
pub use dynamic::{at_exit, contains, del, get, id, reset, set, take, unload, with};
pub use error::AccessError;
pub use gorun_scheduler::{cleaning_exits, exit_overruns, exit_panics};
pub use key::LocalKey;
