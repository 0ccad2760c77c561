//! Sending and receiving as futures: on any executor, over the same channels as goroutines and threads.
//!
//! A future that has to wait stands in the channel's queue like everybody else, with a claim word of its own whose claim
//! yields its waker. `state` decides; here is what a future does when it is polled, and when it is dropped.
//!
//! * **U1.** A waiting future is in a queue or has been claimed; its `Drop` takes the lock and makes it neither (W2, F2).
//! * **U2.** A value that a receiving future got and nobody polled out of it goes back to the channel when it is dropped:
//!   to the next receiver, or to the front of the buffer, where it is the oldest. (The buffer may hold more than the
//!   capacity then, also of an unbuffered channel: its sender has gone on.)
//! * **U3.** A value that a sending future holds is sent by a claim, or is dropped with the future: never both.
//! * **U4.** Wakers are the user's: they are cloned before the lock is taken, and dropped after it is released.
//! * **U5.** A waker's panic as it is dropped ends here, and it is dropped last: what was claimed is woken, and what was received
//!   is given out. (The one in the future's own task goes with the future, and its panic to whoever drops that.)

use super::core::Core;
use super::error::{RecvError, SendError};
use super::handle::{Receiver, Sender};
use super::locked::Locked;
use super::slot::Slot;
use super::state::{Received, Sent};
use super::token::{is_promise, settled};
use gorun_scheduler::{Task, Waiter, Wake, drop_contained};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::stream::{FusedStream, Stream};

/// The future of [`Sender::send_async`].
#[must_use = "futures do nothing unless they are polled"]
pub struct SendFuture<'a, T> {
    core: &'a Core<T>,
    node: Node<T>,
}

/// The future of [`Receiver::recv_async`].
#[must_use = "futures do nothing unless they are polled"]
pub struct RecvFuture<'a, T> {
    core: &'a Core<T>,
    node: Node<T>,
}

/// What [`Receiver::stream`] gives: receives until the channel is closed and empty.
#[must_use = "streams do nothing unless they are polled"]
pub struct RecvStream<T> {
    receiver: Receiver<T>,
    node: Pin<Box<Node<T>>>,
    ended: bool,
}

/// The part of a future that stays where it is.
struct Node<T> {
    task: Task,
    waiter: Waiter<Slot<T>>,
    waits: Waits,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    No,
    /// In the queue of its side, or claimed out of it.
    Queued,
    /// Committed to a select that sends, or served by it.
    Committed,
    /// A sending future that is done.
    Over,
}

// SAFETY: all of it is touched by whoever polls or drops the future, who has it for himself, and under the channel's
// lock by claimers (W1, F1). Values and wakers cross threads.
unsafe impl<T: Send> Send for Node<T> {}
// SAFETY: a shared reference to a node gives access to nothing.
unsafe impl<T: Send> Sync for Node<T> {}

impl<T> Node<T> {
    fn new(value: Option<T>) -> Node<T> {
        Node { task: Task::new(), waiter: Waiter::idle(Slot::new(value)), waits: Waits::No }
    }

    /// Before it enters a queue.
    fn arm(&self, waker: Waker) -> Option<Waker> {
        self.waiter.assign(self.task.parker(), settled(0));
        self.task.arm(waker)
    }

    fn poll_send(&mut self, core: &Core<T>, waker: &Waker) -> Poll<Result<(), SendError<T>>> {
        let waker = waker.clone();
        let mut state = core.lock();
        let unused: Option<Waker>;
        let outcome = match self.waits {
            Waits::No => match state.send(&self.waiter.slot.value) {
                Sent::Full => {
                    unused = self.arm(waker);
                    self.waits = Waits::Queued;
                    // SAFETY: U1: the node is pinned, and leaves the queue before it goes.
                    unsafe { state.wait_to_send(&self.waiter) };
                    None
                }
                Sent::Done(receiver) => {
                    unused = Some(waker);
                    Some(receiver)
                }
                Sent::Closed => {
                    unused = Some(waker);
                    Some(None)
                }
            },
            Waits::Queued if self.task.claimed().is_none() => {
                unused = self.task.change_waker(waker);
                None
            }
            Waits::Queued => {
                unused = Some(waker);
                Some(None)
            }
            Waits::Committed | Waits::Over => panic!("a `SendFuture` was polled after it was done"),
        };
        drop(state);
        if outcome.is_some() {
            self.waits = Waits::Over;
        }
        // U5: first of all: who was claimed is ours to wake.
        wake(outcome.flatten());
        drop_contained(unused);
        if self.waits != Waits::Over {
            return Poll::Pending;
        }
        // What is still there was not sent: the channel is closed.
        Poll::Ready(self.waiter.slot.take().map_or(Ok(()), |value| Err(SendError(value))))
    }

    fn poll_recv(&mut self, core: &Core<T>, waker: &Waker) -> Poll<Result<T, RecvError>> {
        let waker = waker.clone();
        let mut state = core.lock();
        if self.waits != Waits::No {
            let Some(token) = self.task.claimed() else {
                let unused = self.task.change_waker(waker);
                drop(state);
                drop_contained(unused);
                return Poll::Pending;
            };
            if let Some(value) = self.waiter.slot.take() {
                self.waits = Waits::No;
                drop(state);
                drop_contained(waker);
                return Poll::Ready(Ok(value));
            }
            if self.waiter.is_queued() {
                // Promised, and polled before the value has come: it waits for it under a claim of its own.
                self.waits = Waits::Committed;
                let due = self.waiter.slot.take_due();
                let unused = self.task.arm(waker);
                drop(state);
                drop_contained(due);
                drop_contained(unused);
                return Poll::Pending;
            }
            let began_anew = self.waits == Waits::Committed || is_promise(token);
            self.waits = Waits::No;
            if !began_anew {
                drop(state);
                drop_contained(waker);
                return Poll::Ready(Err(RecvError));
            }
        }
        state = core.fresh(state);
        match state.receive(&self.waiter.slot.value) {
            Received::Value(sender) => {
                drop(state);
                wake(sender);
                drop_contained(waker);
                Poll::Ready(self.waiter.slot.take().ok_or(RecvError))
            }
            Received::Closed => {
                drop(state);
                drop_contained(waker);
                Poll::Ready(Err(RecvError))
            }
            Received::Empty => {
                let unused = self.arm(waker);
                self.waits = Waits::Queued;
                // SAFETY: U1.
                unsafe { state.wait_to_receive(&self.waiter) };
                drop(state);
                drop_contained(unused);
                Poll::Pending
            }
            Received::Promised(sender) => {
                let unused = self.arm(waker);
                self.waits = Waits::Committed;
                // SAFETY: U1; a task is claimed by its channel only.
                unsafe { state.wait_for_promised(&self.waiter) };
                drop(state);
                sender.wake();
                drop_contained(unused);
                Poll::Pending
            }
        }
    }

    fn give_up_send(&mut self, core: &Core<T>) {
        if self.waits == Waits::Queued {
            core.lock().give_up_send(&self.waiter);
        }
    }

    /// U2.
    fn give_up_recv(&mut self, core: &Core<T>) {
        let promised = match self.waits {
            Waits::No | Waits::Over => return,
            Waits::Committed => true,
            Waits::Queued => false,
        };
        self.waits = Waits::No;
        let mut state: Locked<'_, T> = core.lock();
        let mut due: Option<Wake> = None;
        if promised || self.task.claimed().is_some_and(is_promise) {
            state.give_up_promised(&self.waiter);
            due = self.waiter.slot.take_due();
        } else {
            state.give_up_receive(&self.waiter);
        }
        let next = self.waiter.slot.take().and_then(|value| state.give_back(value));
        drop(state);
        wake(next);
        drop_contained(due);
    }
}

fn wake(wake: Option<Wake>) {
    if let Some(wake) = wake {
        wake.wake();
    }
}

impl<T> Sender<T> {
    /// As [`send`](Sender::send), for a future: waits without holding up a thread of its executor.
    ///
    /// A future that has been polled may have its value received at any time, also from a channel of capacity 0, before it is
    /// polled again and learns of it. So the drop of a future that is not done takes its value back if nobody has received
    /// it, and else comes too late: the drop does not tell which. Where the future is raced with others and it matters, keep it
    /// and ask [`withdraw`](SendFuture::withdraw). A future that has never been polled has not sent.
    ///
    /// # Errors
    /// [`SendError`] gives the value back when the channel is closed, or gets closed meanwhile.
    ///
    /// ```
    /// let (tx, rx) = gorun::channel(0);
    /// let receiver = gorun::go(move || rx.iter().sum::<u32>());
    /// futures_lite::future::block_on(async {
    ///     for n in 1..=3 {
    ///         tx.send_async(n).await.unwrap();
    ///     }
    /// });
    /// drop(tx);
    /// assert_eq!(receiver.join().unwrap(), 6);
    /// ```
    pub fn send_async(&self, value: T) -> SendFuture<'_, T> {
        SendFuture { core: &self.core, node: Node::new(Some(value)) }
    }
}

impl<T> Receiver<T> {
    /// As [`recv`](Receiver::recv), for a future: waits without holding up a thread of its executor.
    ///
    /// A future that is dropped before it is done has not received: a value that was given to it meanwhile goes to the
    /// next who waits, or back into the channel, as its first.
    ///
    /// # Errors
    /// [`RecvError`] when the channel is closed and empty.
    ///
    /// ```
    /// let (tx, rx) = gorun::channel(0);
    /// gorun::go(move || tx.send("from a goroutine").unwrap());
    /// let word = futures_lite::future::block_on(rx.recv_async());
    /// assert_eq!(word, Ok("from a goroutine"));
    /// ```
    pub fn recv_async(&self) -> RecvFuture<'_, T> {
        RecvFuture { core: &self.core, node: Node::new(None) }
    }

    /// A stream of what is received, with a receiver of its own; it ends when the channel is closed and empty.
    ///
    /// ```
    /// use futures_lite::StreamExt;
    /// let (tx, rx) = gorun::channel(1);
    /// gorun::go(move || (1..=4).for_each(|n| tx.send(n).unwrap()));
    /// let even: Vec<u32> = futures_lite::future::block_on(rx.stream().filter(|n| n % 2 == 0).collect());
    /// assert_eq!(even, [2, 4]);
    /// ```
    pub fn stream(&self) -> RecvStream<T> {
        self.clone().into_stream()
    }

    /// As [`stream`](Receiver::stream), with this receiver.
    ///
    /// ```
    /// use futures_lite::{StreamExt, future};
    /// let (tx, rx) = gorun::unbounded();
    /// (1..=3).for_each(|n| tx.send(n).unwrap());
    /// drop(tx);
    /// assert_eq!(future::block_on(rx.into_stream().collect::<Vec<i32>>()), [1, 2, 3]);
    /// ```
    pub fn into_stream(self) -> RecvStream<T> {
        RecvStream { receiver: self, node: Box::pin(Node::new(None)), ended: false }
    }
}

impl<T> SendFuture<'_, T> {
    /// Gives up sending: gives the value back if nobody has received it, and `None` if it has been sent, or if the result of
    /// the future has told of it already.
    ///
    /// # Panics
    /// Never; but the future panics when it is polled afterwards.
    ///
    /// ```
    /// use futures_lite::future::{block_on, or, ready};
    /// use std::pin::pin;
    ///
    /// let (tx, rx) = gorun::channel(0);
    /// let mut sending = pin!(tx.send_async("parcel"));
    /// // Raced with what is ready at once; nobody receives.
    /// let sent = block_on(or(async { sending.as_mut().await.is_ok() }, ready(false)));
    /// assert!(!sent);
    /// assert_eq!(sending.as_mut().withdraw(), Some("parcel"));
    /// assert!(rx.try_recv().is_err());
    ///
    /// let mut sending = pin!(tx.send_async("parcel"));
    /// let sent = block_on(or(async { sending.as_mut().await.is_ok() }, async { rx.recv() == Ok("lost") }));
    /// assert!(!sent);
    /// assert_eq!(sending.as_mut().withdraw(), None); // received, though the race was won by another
    /// ```
    pub fn withdraw(self: Pin<&mut Self>) -> Option<T> {
        // SAFETY: nothing is moved out of the node.
        let this = unsafe { self.get_unchecked_mut() };
        this.node.give_up_send(this.core);
        // Neither queued nor to be claimed (U1): what is in the slot is ours.
        this.node.waits = Waits::Over;
        this.node.waiter.slot.take()
    }
}

impl<T> Future for SendFuture<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the node.
        let this = unsafe { self.get_unchecked_mut() };
        this.node.poll_send(this.core, context.waker())
    }
}

impl<T> Drop for SendFuture<'_, T> {
    fn drop(&mut self) {
        self.node.give_up_send(self.core);
    }
}

impl<T> Future for RecvFuture<'_, T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved out of the node.
        let this = unsafe { self.get_unchecked_mut() };
        this.node.poll_recv(this.core, context.waker())
    }
}

impl<T> Drop for RecvFuture<'_, T> {
    fn drop(&mut self) {
        self.node.give_up_recv(self.core);
    }
}

impl<T> Stream for RecvStream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let core = Arc::clone(&self.receiver.core);
        // SAFETY: nothing is moved out of the node.
        let node = unsafe { self.node.as_mut().get_unchecked_mut() };
        let received = std::task::ready!(node.poll_recv(&core, context.waker()));
        self.ended = received.is_err();
        Poll::Ready(received.ok())
    }
}

impl<T> FusedStream for RecvStream<T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T> Drop for RecvStream<T> {
    fn drop(&mut self) {
        // SAFETY: nothing is moved out of the node.
        unsafe { self.node.as_mut().get_unchecked_mut() }.give_up_recv(&self.receiver.core);
    }
}

macro_rules! debug {
    ($($future:ty),*) => {$(
        impl<T> fmt::Debug for $future {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($future)).finish_non_exhaustive()
            }
        }
    )*};
}

debug!(SendFuture<'_, T>, RecvFuture<'_, T>, RecvStream<T>);
