//! Channels: unbuffered and buffered, any number of senders and receivers, Go's semantics with Rust's errors.
//!
//! | Go | gorun |
//! |---|---|
//! | `make(chan T)`, `make(chan T, n)` | `channel(0)`, `channel(n)`; [`unbounded()`](unbounded()) has no limit |
//! | `var c chan T` (nil) | [`never()`](never()), to receive from |
//! | `c <- v` | `tx.send(v)`; on a closed channel an error with the value, where Go panics |
//! | `v, ok := <-c` | `rx.recv()`: `Err` when closed and empty |
//! | `close(c)` | `tx.close()`, `rx.close()`, idempotent; or drop the last sender |
//! | `for v := range c` | `for v in rx` |
//! | `select` | [`select!`](crate::select!) |
//! | `len(c)`, `cap(c)` | `rx.len()`, `rx.capacity()` |
//!
//! Everything works from goroutines, which park, from plain threads, which block, and from futures,
//! which are woken. `handle` has the handles and
//! what both sides share; `sender` and `receiver` suspend, `state` decides.
//!
//! # Ordering
//! A send happens before the receive that gets its value; the receive of an unbuffered channel happens before the
//! send returns; the k-th receive happens before the (k+capacity)-th send returns; a close happens before a receive
//! that fails because of it (the Go memory model, "Channel communication").

#[allow(unsafe_code, reason = "waiters on the stack, linked into the channel's queues")]
mod core;
mod error;
#[allow(unsafe_code, reason = "waiters in pinned futures")]
mod future;
mod handle;
mod iter;
#[allow(unsafe_code, reason = "waiters on the stack, linked into the channel's queues")]
mod locked;
#[allow(unsafe_code, reason = "waiters on the stack, linked into the channel's queues")]
mod receiver;
#[allow(unsafe_code, reason = "waiters on the stack, linked into the channel's queues")]
mod sender;
mod sending_timer;
#[allow(unsafe_code, reason = "a cell's content, by pointer")]
mod slot;
#[allow(unsafe_code, reason = "waiters on the stack, linked into the channel's queues")]
mod state;
mod timed;
mod token;

pub use error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
pub use future::{RecvFuture, RecvStream, SendFuture};
pub use iter::{IntoIter, Iter, TryIter};

pub(crate) use self::core::{Closing, Core};
pub use self::handle::{Receiver, Sender, channel, never, unbounded};
pub(crate) use self::handle::{channel_of_library, channel_of_timer};
pub(crate) use self::locked::Locked;
pub(crate) use self::slot::Slot;
pub(crate) use self::state::{Offered, Received, Side, State};
pub(crate) use self::timed::{Tick, TimerEnd};
pub(crate) use self::token::{arm_of, is_promise, patience, settled};
