//! Channels: unbuffered and buffered, any number of senders and receivers, Go's semantics with Rust's errors.
//!
//! | Go | gorun |
//! |---|---|
//! | `make(chan T)`, `make(chan T, n)` | `channel(0)`, `channel(n)`; [`unbounded()`](unbounded) has no limit |
//! | `var c chan T` (nil) | [`never()`](never), to receive from |
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

use self::core::{Core, Received, Sent, Slot};
use gorun_scheduler::{Blocker, Stopper, Token, WaitReason, Waiter, Wake, checkpoint, unwind_aborted};
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

/// A channel without a limit: a send never waits.
///
/// Values take memory until they are received; nothing slows a sender down that is faster than its receivers.
/// [`capacity`](Sender::capacity) is `usize::MAX`.
///
/// ```
/// let (tx, rx) = gorun::unbounded();
/// (0..1000).for_each(|n| tx.send(n).unwrap());
/// drop(tx);
/// assert_eq!(rx.into_iter().sum::<u32>(), 499_500);
/// ```
#[must_use]
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(usize::MAX)
}

/// A receiver that never receives and whose channel has no sender that could close it: Go's nil channel, to receive
/// from.
///
/// ```
/// use gorun::chan::{RecvTimeoutError, never};
/// let silent = never::<u8>();
/// assert_eq!(silent.recv_timeout(std::time::Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
/// ```
#[must_use]
pub fn never<T>() -> Receiver<T> {
    let (sender, receiver) = channel(0);
    // The one that is counted and never goes. What it points to goes with the receiver.
    sender.forget();
    receiver
}

/// The sending side. Clones send into the same channel; the channel closes when the last one is dropped.
///
/// ```
/// let (tx, rx) = gorun::channel(8);
/// for n in 0..4 {
///     let tx = tx.clone();
///     gorun::go(move || tx.send(n).unwrap());
/// }
/// drop(tx); // the clones are the last ones now
/// assert_eq!(rx.iter().sum::<i32>(), 6);
/// ```
pub struct Sender<T> {
    core: Arc<Core<T>>,
}

/// The receiving side. Clones receive from the same channel, each value once; when the last one is dropped the
/// channel closes and what is in it is dropped.
///
/// ```
/// let (tx, rx) = gorun::channel(0);
/// let sums: Vec<_> = (0..3).map(|_| { let rx = rx.clone(); gorun::go(move || rx.iter().sum::<u32>()) }).collect();
/// (1..=10).for_each(|n| tx.send(n).unwrap());
/// drop(tx);
/// assert_eq!(sums.into_iter().map(|sum| sum.join().unwrap()).sum::<u32>(), 55);
/// ```
pub struct Receiver<T> {
    core: Arc<Core<T>>,
}

fn wake(wake: Option<Wake>) {
    if let Some(wake) = wake {
        wake.wake();
    }
}

fn sole<T>(value: &Slot<T>) -> T {
    value.take().expect("H3: nobody took it")
}

impl<T> Sender<T> {
    /// Gives up the handle but not its count: the channel keeps a sender for ever.
    fn forget(self) {
        self.core.add_sender();
    }

    /// Sends `value`: waits until there is room, or, without capacity, until a receiver has it. Waiting senders are
    /// served first come, first served.
    ///
    /// The send happens before the receive that gets the value. Without capacity that receive happens before `send`
    /// returns; with capacity `n`, the k-th receive happens before the return of the (k+n)-th send.
    ///
    /// A cancellation point: when the goroutine is aborted before the value is sent, the value is dropped, once.
    ///
    /// # Errors
    /// [`SendError`] gives the value back when the channel is closed, or gets closed meanwhile.
    ///
    /// ```
    /// let (tx, rx) = gorun::channel(0);
    /// let sender = gorun::go(move || tx.send("over").and_then(|()| tx.send("and out")));
    /// assert_eq!(rx.recv(), Ok("over"));
    /// rx.close();
    /// assert_eq!(sender.join().unwrap().unwrap_err().into_inner(), "and out");
    /// ```
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        match self.send_until(value, None) {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Closed(value)) => Err(SendError(value)),
            Err(SendTimeoutError::Timeout(_)) => unreachable!("there was no deadline"),
        }
    }

    /// As [`send`](Sender::send), for `timeout` at most; what needs no waiting succeeds even if that is zero.
    ///
    /// # Errors
    /// The value comes back when the time is up, or the channel is closed or gets closed meanwhile.
    ///
    /// ```
    /// use gorun::chan::SendTimeoutError;
    /// let (tx, _rx) = gorun::channel(1);
    /// let late = gorun::go(move || (0..2).try_for_each(|n| tx.send_timeout(n, std::time::Duration::from_millis(2))));
    /// assert_eq!(late.join().unwrap(), Err(SendTimeoutError::Timeout(1)));
    /// ```
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        // A deadline that the clock can't say is none.
        self.send_until(value, Instant::now().checked_add(timeout))
    }

    /// As [`send_timeout`](Sender::send_timeout), until `deadline` at most.
    ///
    /// # Errors
    /// The value comes back when the time is up, or the channel is closed or gets closed meanwhile.
    ///
    /// ```
    /// use gorun::chan::SendTimeoutError;
    /// let (tx, _rx) = gorun::channel(0);
    /// let late = gorun::go(move || tx.send_deadline('v', std::time::Instant::now()));
    /// assert_eq!(late.join().unwrap(), Err(SendTimeoutError::Timeout('v')));
    /// ```
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, Some(deadline))
    }

    fn send_until(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        checkpoint();
        let value = Cell::new(Some(value));
        let mut state = self.core.lock();
        match state.send(&value) {
            Sent::Done(receiver) => {
                drop(state);
                wake(receiver);
                return Ok(());
            }
            Sent::Closed => return Err(SendTimeoutError::Closed(sole(&value))),
            Sent::Full => {}
        }
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, value);
        blocker.arm();
        // SAFETY: W2: the waiter stays in this frame until it is claimed or given up below.
        unsafe { state.wait_to_send(&waiter) };
        drop(state);
        let token = blocker.park(WaitReason::ChanSend, deadline);
        if token == Token::DONE {
            // Received; or closed, and then the value is still here.
            return waiter.slot.take().map_or(Ok(()), |value| Err(SendTimeoutError::Closed(value)));
        }
        self.core.lock().give_up_send(&waiter);
        let value = sole(&waiter.slot);
        if token == Token::ABORT {
            drop(value);
            unwind_aborted();
        }
        Err(SendTimeoutError::Timeout(value))
    }

    /// Sends `value` if that needs no waiting: there is room, or a receiver waits. No cancellation point.
    ///
    /// # Errors
    /// The value comes back when it would have to wait, or the channel is closed.
    ///
    /// ```
    /// use gorun::chan::TrySendError;
    /// let (tx, rx) = gorun::channel(1);
    /// assert_eq!(tx.try_send(1), Ok(()));
    /// assert_eq!(tx.try_send(2), Err(TrySendError::Full(2)));
    /// drop(rx);
    /// assert_eq!(tx.try_send(3), Err(TrySendError::Closed(3)));
    /// ```
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let value = Cell::new(Some(value));
        let sent = self.core.lock().send(&value);
        match sent {
            Sent::Done(receiver) => {
                wake(receiver);
                Ok(())
            }
            Sent::Closed => Err(TrySendError::Closed(sole(&value))),
            Sent::Full => Err(TrySendError::Full(sole(&value))),
        }
    }
}

/// What became of a value offered by a timer.
#[must_use]
pub(crate) enum Offered {
    /// It is in the buffer, or with a receiver, who is to be woken.
    Taken(Option<Wake>),
    /// Nobody has taken the one before, and this one is gone.
    Late,
    /// Nobody ever will.
    Closed,
}

impl Sender<Instant> {
    /// As `try_send`, under a timer's lock: the waking is left to the caller.
    pub(crate) fn offer(&self, value: Instant) -> Offered {
        match self.core.lock().send(&Cell::new(Some(value))) {
            Sent::Done(receiver) => Offered::Taken(receiver),
            Sent::Full => Offered::Late,
            Sent::Closed => Offered::Closed,
        }
    }

    /// `timer` sends here: it is stopped when the last receiver goes.
    pub(crate) fn sent_by(&self, timer: Stopper) {
        self.core.set_timer(timer);
    }
}

impl<T> Receiver<T> {
    /// Receives a value, waiting for one if need be. Waiting receivers are served first come, first served.
    ///
    /// The send of the value happens before `recv` returns it; so does the close before a `recv` that fails because
    /// of it.
    ///
    /// A cancellation point: a goroutine that is aborted while it waits has received nothing.
    ///
    /// # Errors
    /// [`RecvError`] when the channel is closed and empty.
    ///
    /// ```
    /// use gorun::chan::RecvError;
    /// let (tx, rx) = gorun::channel(2);
    /// gorun::go(move || tx.send(7).unwrap()); // and drops the last sender
    /// assert_eq!(rx.recv(), Ok(7));
    /// assert_eq!(rx.recv(), Err(RecvError));
    /// ```
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// As [`recv`](Receiver::recv), for `timeout` at most; what is there is received even if that is zero.
    ///
    /// # Errors
    /// When the time is up, or the channel is closed and empty.
    ///
    /// ```
    /// use gorun::chan::RecvTimeoutError;
    /// let (_tx, rx) = gorun::channel::<u8>(0);
    /// let waiting = gorun::go(move || rx.recv_timeout(std::time::Duration::from_millis(2)));
    /// assert_eq!(waiting.join().unwrap(), Err(RecvTimeoutError::Timeout));
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(Instant::now().checked_add(timeout))
    }

    /// As [`recv_timeout`](Receiver::recv_timeout), until `deadline` at most.
    ///
    /// # Errors
    /// When the time is up, or the channel is closed and empty.
    ///
    /// ```
    /// use gorun::chan::RecvTimeoutError;
    /// let (tx, rx) = gorun::channel(1);
    /// tx.send(1).unwrap();
    /// let twice = gorun::go(move || [(); 2].map(|()| rx.recv_deadline(std::time::Instant::now())));
    /// assert_eq!(twice.join().unwrap(), [Ok(1), Err(RecvTimeoutError::Timeout)]);
    /// ```
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        checkpoint();
        let mut state = self.core.lock();
        match state.receive() {
            Received::Value(value, sender) => {
                drop(state);
                wake(sender);
                return Ok(value);
            }
            Received::Closed => return Err(RecvTimeoutError::Closed),
            Received::Empty => {}
        }
        let blocker = Blocker::current();
        let waiter = Waiter::new(&blocker, Token::DONE, Cell::new(None));
        blocker.arm();
        // SAFETY: W2: the waiter stays in this frame until it is claimed or given up below.
        unsafe { state.wait_to_receive(&waiter) };
        drop(state);
        let token = blocker.park(WaitReason::ChanRecv, deadline);
        if token == Token::DONE {
            // A value; or closed, and then the slot is empty.
            return waiter.slot.take().ok_or(RecvTimeoutError::Closed);
        }
        self.core.lock().give_up_receive(&waiter);
        if token == Token::ABORT {
            unwind_aborted();
        }
        Err(RecvTimeoutError::Timeout)
    }

    /// Receives a value if that needs no waiting: one is in the buffer, or a sender waits. No cancellation point.
    ///
    /// # Errors
    /// When there is none now, or the channel is closed and empty.
    ///
    /// ```
    /// use gorun::chan::TryRecvError;
    /// let (tx, rx) = gorun::channel(1);
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    /// tx.send(1).unwrap();
    /// tx.close();
    /// assert_eq!(rx.try_recv(), Ok(1));
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Closed));
    /// ```
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let received = self.core.lock().receive();
        match received {
            Received::Value(value, sender) => {
                wake(sender);
                Ok(value)
            }
            Received::Closed => Err(TryRecvError::Closed),
            Received::Empty => Err(TryRecvError::Empty),
        }
    }

    /// Receives, waiting as [`recv`](Receiver::recv) does, until the channel is closed and empty.
    ///
    /// ```
    /// let (tx, rx) = gorun::channel(0);
    /// gorun::go(move || ["a", "b"].map(|s| tx.send(s).unwrap()));
    /// assert_eq!(rx.iter().collect::<String>(), "ab");
    /// ```
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(self)
    }

    /// Receives what is there now, without waiting.
    ///
    /// ```
    /// let (tx, rx) = gorun::channel(3);
    /// (0..3).for_each(|n| tx.send(n).unwrap());
    /// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    /// ```
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
            ///
            /// The close happens before a receive that fails because of it. Never waits.
            ///
            /// ```
            /// let (tx, rx) = gorun::channel(1);
            /// tx.send(1).unwrap();
            /// tx.close();
            /// assert_eq!(tx.send(2).unwrap_err().into_inner(), 2);
            /// assert_eq!((rx.recv().ok(), rx.recv().ok()), (Some(1), None));
            /// ```
            pub fn close(&self) {
                self.core.close();
            }

            /// Whether it has been closed, by [`close`](Self::close) or because one side is gone.
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.core.lock().is_closed()
            }

            /// How many values are in the buffer. A snapshot.
            #[must_use]
            pub fn len(&self) -> usize {
                self.core.lock().len()
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

            /// How many values the buffer takes; `usize::MAX` for an [`unbounded`] one.
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
