//! Waiting for one of several channel operations: [`select!`](crate::select!), [`select_biased!`](crate::select_biased!),
//! and [`Select`] for a set that is known at run time only.
//!
//! | Go | gorun |
//! |---|---|
//! | `select { case v, ok := <-r: … case s <- x: … default: … }` | `select! { recv(r) -> v => …, send(s, x) -> res => …, default => … }` |
//! | `case <-time.After(d):` | `default(d) => …` |
//! | a nil channel in a case | `None`, or [`never()`](crate::never()) |
//! | `select {}` | `gorun::never::<()>().recv()` |
//! | `reflect.Select` | [`Select`] |
//!
//! The grammar is crossbeam-channel's. One difference to Go: the value of a `send` arm is made when the arm has been
//! chosen, and not before, so an arm that is not taken has no effect at all.
//!
//! An operation on a closed channel is ready: it fails. A select none of whose arms can ever become ready (all are `None`
//! or [`never()`](crate::never()), or no other party is left) waits for ever, as in Go, unless it is aborted or its
//! `default(timeout)` is reached. To end a select with a context, add an arm for
//! [`ctx.done()`](crate::context::Context::done).
//!
//! The operation that is chosen happens as if it had been called by itself: what a channel's send and receive promise of
//! ordering holds for it. Those that are not chosen order nothing.
//!
//! `run` has the protocol, `arm` one operation.

#[allow(unsafe_code, reason = "waiters in several channels; states without their type while their locks are held")]
mod arm;
#[allow(unsafe_code, reason = "a received value leaves an arm without a type")]
mod dynamic;
mod macros;
mod renew;
#[allow(unsafe_code, reason = "passes those states to the arms they belong to")]
mod run;

pub use dynamic::{ReadyTimeoutError, Select, SelectTimeoutError, SelectedOperation, TryReadyError, TrySelectError};

use crate::{Receiver, Sender};
use std::rc::Rc;
use std::sync::Arc;

/// What a `recv` arm of a [`select!`](crate::select!) may name: a receiver, a pointer to one, or an `Option` of these.
///
/// ```
/// use gorun::{Receiver, select::AsReceiver};
///
/// struct Inbox(Receiver<String>);
///
/// impl AsReceiver for Inbox {
///     type Value = String;
///     fn as_receiver(&self) -> Option<&Receiver<String>> { Some(&self.0) }
/// }
///
/// let (tx, rx) = gorun::channel(1);
/// let inbox = Inbox(rx);
/// tx.send("letter".to_string()).unwrap();
/// gorun::select! { recv(inbox) -> letter => assert_eq!(letter.unwrap(), "letter") }
/// ```
#[diagnostic::on_unimplemented(
    message = "a `recv` arm can't receive from `{Self}`",
    note = "name a receiver: `rx`, `ctx.done()` of a context, `ticker.channel()` of a ticker or timer, or an `Option` of these"
)]
pub trait AsReceiver {
    /// What it receives.
    type Value;
    /// The receiver; `None` for an arm that is never ready, as one with a nil channel in Go. Called once each time the
    /// select statement is run.
    ///
    /// ```
    /// use gorun::{Receiver, select::AsReceiver};
    /// let (_tx, rx) = gorun::channel::<u8>(1);
    /// assert!(Some(&rx).as_receiver().is_some());
    /// assert!(None::<&Receiver<u8>>.as_receiver().is_none());
    /// ```
    fn as_receiver(&self) -> Option<&Receiver<Self::Value>>;
}

/// What a `send` arm of a [`select!`](crate::select!) may name: a sender, a pointer to one, or an `Option` of these.
///
/// ```
/// let (tx, rx) = gorun::channel(1);
/// for sender in [None, Some(&tx)] {
///     gorun::select! {
///         send(sender, 1) -> sent => sent.unwrap(),
///         default => assert!(sender.is_none()),
///     }
/// }
/// assert_eq!(rx.recv(), Ok(1));
/// ```
#[diagnostic::on_unimplemented(
    message = "a `send` arm can't send to `{Self}`",
    note = "name a sender, a pointer to one, or an `Option` of these"
)]
pub trait AsSender {
    /// What it sends.
    type Value;
    /// The sender; `None` for an arm that is never ready, as one with a nil channel in Go. Called once each time the select
    /// statement is run.
    ///
    /// ```
    /// use gorun::{Sender, select::AsSender};
    /// let (tx, _rx) = gorun::channel::<u8>(1);
    /// assert!(Some(&tx).as_sender().is_some());
    /// assert!(None::<&Sender<u8>>.as_sender().is_none());
    /// ```
    fn as_sender(&self) -> Option<&Sender<Self::Value>>;
}

impl<T> AsReceiver for Receiver<T> {
    type Value = T;
    #[inline]
    fn as_receiver(&self) -> Option<&Receiver<T>> {
        Some(self)
    }
}

impl<T> AsSender for Sender<T> {
    type Value = T;
    #[inline]
    fn as_sender(&self) -> Option<&Sender<T>> {
        Some(self)
    }
}

impl<A: AsReceiver> AsReceiver for Option<A> {
    type Value = A::Value;
    #[inline]
    fn as_receiver(&self) -> Option<&Receiver<A::Value>> {
        self.as_ref().and_then(A::as_receiver)
    }
}

impl<A: AsSender> AsSender for Option<A> {
    type Value = A::Value;
    #[inline]
    fn as_sender(&self) -> Option<&Sender<A::Value>> {
        self.as_ref().and_then(A::as_sender)
    }
}

macro_rules! through_pointers {
    ($($pointer:ty),*) => {$(
        impl<A: AsReceiver + ?Sized> AsReceiver for $pointer {
            type Value = A::Value;
            #[inline]
            fn as_receiver(&self) -> Option<&Receiver<A::Value>> {
                (**self).as_receiver()
            }
        }

        impl<A: AsSender + ?Sized> AsSender for $pointer {
            type Value = A::Value;
            #[inline]
            fn as_sender(&self) -> Option<&Sender<A::Value>> {
                (**self).as_sender()
            }
        }
    )*};
}

through_pointers!(&A, &mut A, Box<A>, Rc<A>, Arc<A>);

/// What the macros expand to. No part of the interface.
#[doc(hidden)]
pub mod internal {
    pub use super::arm::{Arm, Permit, RecvArm, SendArm};
    pub use super::run::Wait;
    use super::{AsReceiver, AsSender};
    use std::marker::PhantomData;
    use std::time::Duration;

    /// What makes an arm, by a method that the arm's own word names: the compiler reports that a method's bound does not hold
    /// where the method's name stands, if it can't blame one argument alone. So there are two that say the type.
    #[derive(Debug)]
    pub struct Arms;

    impl Arms {
        #[inline]
        pub fn recv<A: AsReceiver + ?Sized>(self, receiver: &A, _: PhantomData<A>) -> RecvArm<'_, A::Value> {
            RecvArm::new(receiver.as_receiver())
        }

        #[inline]
        pub fn send<A: AsSender + ?Sized>(self, sender: &A, _: PhantomData<A>) -> SendArm<'_, A::Value> {
            SendArm::new(sender.as_sender())
        }
    }

    /// A deadline that the clock can't say is none.
    pub fn for_at_most(timeout: Duration) -> Wait {
        Wait::for_at_most(timeout)
    }

    /// Each arm borrows its operation exclusively (A4 in `arm`), and only the caller has the table while it waits, so no
    /// waiter gets into two queues.
    pub fn run(arms: &mut [Arm<'_>], biased: bool, wait: Wait) -> Option<usize> {
        super::run::run(arms, biased, wait)
    }
}
