//! The handles of a channel, and what both sides can say and do.
//!
//! `sender` and `receiver` have what only one side can.

use super::core::{Core, SentBy};
use gorun_scheduler::polled_in_vain;
use std::fmt;
use std::sync::Arc;

/// A channel for `capacity` values; with 0 a send waits for its receiver.
///
/// ```
/// let (tx, rx) = gorun::channel(0);
/// gorun::go(move || for n in 0..3 { tx.send(n).unwrap(); });
/// assert_eq!(rx.iter().collect::<Vec<_>>(), [0, 1, 2]);
/// ```
#[must_use]
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel_of(capacity, SentBy::Users)
}

fn channel_of<T>(capacity: usize, sent_by: SentBy) -> (Sender<T>, Receiver<T>) {
    let core = Arc::new(Core::new(capacity, sent_by));
    (Sender { core: core.clone() }, Receiver { core })
}

/// Makes a channel that its receivers can't close.
pub(crate) fn channel_of_library<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel_of(capacity, SentBy::Library)
}

/// Makes the channel of a timer: like [`channel_of_library`], with the additions in `timed`.
pub(crate) fn channel_of_timer<T>() -> (Sender<T>, Receiver<T>) {
    channel_of(1, SentBy::Timer)
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
    let (sender, receiver) = channel_of_library(0);
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
    pub(crate) core: Arc<Core<T>>,
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
    pub(crate) core: Arc<Core<T>>,
}

/// The result of checking a channel.
fn poll(in_vain: bool) -> bool {
    if in_vain {
        polled_in_vain();
    }
    in_vain
}

/// What both sides can say and do.
macro_rules! both_sides {
    ($side:ident, $add:ident, $remove:ident, $close:ident) => {
        impl<T> $side<T> {
            /// Closes the channel: later sends fail, those that wait get their value back; what is in the buffer can
            /// still be received, then receives fail. Closing again does nothing.
            ///
            /// The close happens before a receive that fails because of it. Never waits.
            ///
            /// It has no effect on a receiver that the library handed out (for a context's end, a timer or
            /// [`never`](never())): others receive from that channel too, and only the library sends on it. (In Go, a
            /// `<-chan` can't be closed.) Drop such a receiver instead.
            ///
            /// ```
            /// let (tx, rx) = gorun::channel(1);
            /// tx.send(1).unwrap();
            /// tx.close();
            /// assert_eq!(tx.send(2).unwrap_err().into_inner(), 2);
            /// assert_eq!((rx.recv().ok(), rx.recv().ok()), (Some(1), None));
            /// ```
            pub fn close(&self) {
                self.core.$close();
            }

            /// Returns true if it has been closed, by [`close`](Self::close) or because one side is gone.
            ///
            /// ```
            /// let (tx, rx) = gorun::channel::<u8>(1);
            /// assert!(!tx.is_closed());
            /// drop(rx);
            /// assert!(tx.is_closed());
            /// ```
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.core.lock().is_closed()
            }

            /// How many values are in the buffer. A snapshot.
            ///
            /// ```
            /// let (tx, rx) = gorun::channel(2);
            /// tx.send('a').unwrap();
            /// assert_eq!((tx.len(), rx.len()), (1, 1));
            /// ```
            #[must_use]
            pub fn len(&self) -> usize {
                if self.core.sent_by == SentBy::Timer { 0 } else { self.core.lock().len() }
            }

            /// Returns true if the buffer is empty. A snapshot.
            ///
            /// ```
            /// let (tx, rx) = gorun::channel(2);
            /// assert!(rx.is_empty());
            /// tx.send('a').unwrap();
            /// assert!(!rx.is_empty());
            /// ```
            #[must_use]
            pub fn is_empty(&self) -> bool {
                poll(self.len() == 0)
            }

            /// Returns true if the buffer is full; always, without capacity. A snapshot.
            ///
            /// ```
            /// let (tx, _rx) = gorun::channel(1);
            /// assert!(!tx.is_full());
            /// tx.send('a').unwrap();
            /// assert!(tx.is_full());
            /// ```
            #[must_use]
            pub fn is_full(&self) -> bool {
                poll(self.len() >= self.capacity())
            }

            /// The number of values that the buffer holds; `usize::MAX` for an [`unbounded`] channel, and 0 for a timer's,
            /// which behaves as if it were unbuffered (as in Go since 1.23).
            ///
            /// ```
            /// assert_eq!(gorun::channel::<u8>(7).0.capacity(), 7);
            /// ```
            #[must_use]
            pub fn capacity(&self) -> usize {
                if self.core.sent_by == SentBy::Timer { 0 } else { self.core.capacity }
            }

            /// Returns true if both are handles of one channel.
            ///
            /// ```
            /// let ((tx, rx), (other, _)) = (gorun::channel::<u8>(1), gorun::channel::<u8>(1));
            /// assert!(tx.same_channel(&tx.clone()) && rx.same_channel(&rx.clone()));
            /// assert!(!tx.same_channel(&other));
            /// ```
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

both_sides!(Sender, add_sender, drop_sender, close);
both_sides!(Receiver, add_receiver, drop_receiver, close_by_receiver);
