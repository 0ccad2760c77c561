//! Channels: unbuffered and buffered, any number of senders and receivers, Go's semantics with Rust's errors.
//!
//! | Go | gorun |
//! |---|---|
//! | `make(chan T)`, `make(chan T, n)` | `channel(0)`, `channel(n)` |
//! | `c <- v` | `tx.send(v)`; on a closed channel an error with the value, where Go panics |
//! | `v, ok := <-c` | `rx.recv()`: `Err` when closed and empty |
//! | `close(c)` | `tx.close()`, `rx.close()`, idempotent; or drop the last sender |
//! | `for v := range c` | `for v in rx` |
//! | `len(c)`, `cap(c)` | `rx.len()`, `rx.capacity()` |
//!
//! Everything works from goroutines, which park, and from plain threads, which block. This file is the side that
//! suspends; `core` decides.
//!
//! # Ordering
//! A send happens before the receive that gets its value; the receive of an unbuffered channel happens before the
//! send returns; the k-th receive happens before the (k+capacity)-th send returns; a close happens before a receive
//! that fails because of it (the Go memory model, "Channel communication").

mod core;
mod error;
mod iter;

pub use error::{RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
pub use iter::{IntoIter, Iter, TryIter};

use self::core::{Core, Received, Sent};
use gorun_scheduler::{Blocker, Token, WaitReason, Waiter, Wake, checkpoint, unwind_aborted};
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A channel for `capacity` values; with 0 a send waits for its receiver.
///
/// ```
/// let (tx, rx) = gorun::channel(0);
/// gorun::go(move || for n in 0..3 { tx.send(n).unwrap(); });
/// assert_eq!(rx.iter().collect::<Vec<_>>(), [0, 1, 2]);
/// ```
#[must_use]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let core = Arc::new(Core::new(capacity));
    (Sender { core: core.clone() }, Receiver { core })
}

/// The sending side. Clones send into the same channel; the channel closes when the last one is dropped.
pub struct Sender<T> {
    core: Arc<Core<T>>,
}

/// The receiving side. Clones receive from the same channel, each value once; when the last one is dropped the
/// channel closes and what is in it is dropped.
pub struct Receiver<T> {
    core: Arc<Core<T>>,
}

fn wake(wake: Option<Wake>) {
    if let Some(wake) = wake {
        wake.wake();
    }
}

impl<T> Sender<T> {
    /// Sends `value`: waits until there is room, or, without capacity, until a receiver has it.
    ///
    /// A cancellation point: when the goroutine is aborted while it waits, the value is dropped, once.
    ///
    /// # Errors
    /// [`SendError`] gives the value back when the channel is closed, or gets closed meanwhile.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.send_until(value, None) {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Closed(value)) => Err(SendError(value)),
            Err(SendTimeoutError::Timeout(_)) => unreachable!("there was no deadline"),
        }
    }

    /// As [`send`](Sender::send), for `timeout` at most.
    ///
    /// # Errors
    /// The value comes back, with the reason.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        // A deadline that the clock can't say is none.
        self.send_until(value, Instant::now().checked_add(timeout))
    }

    /// As [`send`](Sender::send), until `deadline` at most.
    ///
    /// # Errors
    /// The value comes back, with the reason.
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, Some(deadline))
    }

    fn send_until(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        checkpoint();
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, Cell::new(None));
        // SAFETY: W2: the waiter stays in this frame until it is claimed or given up below.
        match unsafe { self.core.send(value, Some(&waiter), || blocker.arm()) } {
            Sent::Done(receiver) => {
                wake(receiver);
                Ok(())
            }
            Sent::Closed(value) => Err(SendTimeoutError::Closed(value)),
            Sent::Full(_) => unreachable!("there was a waiter"),
            Sent::Waiting => {
                let token = blocker.park(WaitReason::ChanSend, deadline);
                if token == Token::DONE {
                    // Received, or closed: then the value is still here.
                    return waiter.slot.take().map_or(Ok(()), |value| Err(SendTimeoutError::Closed(value)));
                }
                self.core.give_up_send(&waiter);
                let value = waiter.slot.take();
                if token == Token::ABORT {
                    drop(value);
                    unwind_aborted();
                }
                Err(SendTimeoutError::Timeout(value.expect("H3: nobody took it")))
            }
        }
    }

    /// Sends `value` if that needs no waiting.
    ///
    /// # Errors
    /// The value comes back, with the reason.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        // SAFETY: there is no waiter.
        match unsafe { self.core.send(value, None, || ()) } {
            Sent::Done(receiver) => {
                wake(receiver);
                Ok(())
            }
            Sent::Closed(value) => Err(TrySendError::Closed(value)),
            Sent::Full(value) => Err(TrySendError::Full(value)),
            Sent::Waiting => unreachable!("there was no waiter"),
        }
    }
}

impl<T> Receiver<T> {
    /// Receives a value, waiting for one if need be. Waiting receivers are served first come, first served.
    ///
    /// A cancellation point.
    ///
    /// # Errors
    /// [`RecvError`] when the channel is closed and empty.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// As [`recv`](Receiver::recv), for `timeout` at most.
    ///
    /// # Errors
    /// When the time is up, or the channel is closed and empty.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// As [`recv`](Receiver::recv), until `deadline` at most.
    ///
    /// # Errors
    /// When the time is up, or the channel is closed and empty.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        checkpoint();
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, Cell::new(None));
        // SAFETY: W2: the waiter stays in this frame until it is claimed or given up below.
        match unsafe { self.core.receive(Some(&waiter), || blocker.arm()) } {
            Received::Value(value, sender) => {
                wake(sender);
                Ok(value)
            }
            Received::Closed => Err(RecvTimeoutError::Closed),
            Received::Empty => {
                let token = blocker.park(WaitReason::ChanRecv, deadline);
                if token == Token::DONE {
                    return waiter.slot.take().ok_or(RecvTimeoutError::Closed);
                }
                self.core.give_up_receive(&waiter);
                if token == Token::ABORT {
                    unwind_aborted();
                }
                Err(RecvTimeoutError::Timeout)
            }
        }
    }

    /// Receives a value if that needs no waiting.
    ///
    /// # Errors
    /// When there is none now, or the channel is closed and empty.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        // SAFETY: there is no waiter.
        match unsafe { self.core.receive(None, || ()) } {
            Received::Value(value, sender) => {
                wake(sender);
                Ok(value)
            }
            Received::Closed => Err(TryRecvError::Closed),
            Received::Empty => Err(TryRecvError::Empty),
        }
    }

    /// Receives until the channel is closed and empty.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(self)
    }

    /// Receives what is there now.
    #[must_use]
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter::new(self)
    }
}

/// What both sides can say and do.
macro_rules! both_sides {
    ($side:ident, $add:ident, $remove:ident) => {
        impl<T> $side<T> {
            /// Closes the channel: later sends fail, those that wait get their value back; what is in the buffer can
            /// still be received, then receives fail. Closing again does nothing.
            pub fn close(&self) {
                self.core.close();
            }

            /// Whether it has been closed, by [`close`](Self::close) or because one side is gone.
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.core.is_closed()
            }

            /// How many values are in the buffer. A snapshot.
            #[must_use]
            pub fn len(&self) -> usize {
                self.core.len()
            }

            /// Whether the buffer is empty. A snapshot.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether the buffer is full; always, without capacity. A snapshot.
            #[must_use]
            pub fn is_full(&self) -> bool {
                self.len() >= self.core.capacity
            }

            /// How many values the buffer takes.
            #[must_use]
            pub fn capacity(&self) -> usize {
                self.core.capacity
            }

            /// Whether both are handles of one channel.
            #[must_use]
            pub fn same_channel(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.core, &other.core)
            }
        }

        impl<T> Clone for $side<T> {
            fn clone(&self) -> Self {
                self.core.$add();
                $side { core: self.core.clone() }
            }
        }

        impl<T> Drop for $side<T> {
            fn drop(&mut self) {
                self.core.$remove();
            }
        }

        impl<T> fmt::Debug for $side<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($side)).field("len", &self.len()).field("capacity", &self.capacity()).finish()
            }
        }
    };
}

both_sides!(Sender, add_sender, drop_sender);
both_sides!(Receiver, add_receiver, drop_receiver);
