//! `Select`: a set of operations made at run time.
//!
//! * **D1.** An operation's arm lies in an `Rc`: in the set, and in the [`SelectedOperation`] until that is completed.
//!   An arm that is still in one is replaced before the set is used again, as it holds what was selected (A3).

use super::arm::{Permit, RecvArm, SendArm};
use super::renew::Renew;
use super::run::{Wait, run, run_ready};
use crate::chan::{Receiver, RecvError, SendError, Sender, Side};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A set of operations, one of which is to be carried out.
///
/// First the operations are added, then one is selected, and then it has to be completed: with the same channel that it
/// was added with. [`select!`](crate::select!) is easier where the set is known beforehand; what it says about fairness,
/// waiting and aborts holds here too. The surface is crossbeam-channel's.
///
/// ```
/// use gorun::select::Select;
///
/// let (senders, receivers): (Vec<_>, Vec<_>) = (0..5).map(|_| gorun::channel(0)).unzip();
/// for (n, tx) in senders.into_iter().enumerate() {
///     gorun::go(move || tx.send(n).unwrap());
/// }
/// let mut select = Select::new();
/// for rx in &receivers {
///     select.recv(rx);
/// }
/// let (mut sum, mut open) = (0, receivers.len());
/// while open > 0 {
///     let operation = select.select();
///     let index = operation.index();
///     match operation.recv(&receivers[index]) {
///         Ok(n) => sum += n,
///         Err(_) => {
///             select.remove(index);
///             open -= 1;
///         }
///     }
/// }
/// assert_eq!(sum, 10);
/// ```
pub struct Select<'a> {
    arms: Vec<(usize, Rc<dyn Renew<'a> + 'a>)>,
    next_index: usize,
    biased: bool,
}

/// An operation that has been selected. It must be completed, by [`send`](Self::send) or [`recv`](Self::recv).
///
/// # Panics
/// Dropping it panics: what was selected is then undone (a value that was received goes back to the front of its
/// channel).
#[must_use = "a selected operation must be completed"]
pub struct SelectedOperation<'a> {
    index: usize,
    arm: Rc<dyn Renew<'a> + 'a>,
    completed: bool,
}

// As crossbeam's.
impl UnwindSafe for SelectedOperation<'_> {}
impl RefUnwindSafe for SelectedOperation<'_> {}

/// No operation could go on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrySelectError;

/// No operation could go on in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectTimeoutError;

/// No operation is ready now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TryReadyError;

/// No operation was ready in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyTimeoutError;

impl<'a> Select<'a> {
    /// An empty set, from which one of those that can go on is chosen at random, all with the same chance (Go spec,
    /// ["Select statements"](https://go.dev/ref/spec#Select_statements)).
    ///
    /// ```
    /// use gorun::select::Select;
    /// let channels: Vec<_> = (0..4).map(|_| gorun::channel(1)).collect();
    /// let mut select = Select::new();
    /// for (_, rx) in &channels {
    ///     select.recv(rx);
    /// }
    /// channels[2].0.send("two").unwrap();
    /// let chosen = select.select();
    /// let index = chosen.index();
    /// assert_eq!((index, chosen.recv(&channels[index].1)), (2, Ok("two")));
    /// ```
    #[must_use]
    pub fn new() -> Select<'a> {
        Select { arms: Vec::new(), next_index: 0, biased: false }
    }

    /// An empty set, from which the first that can go on is chosen, in the order in which they were added.
    ///
    /// ```
    /// use gorun::select::Select;
    /// let (tx, rx) = gorun::channel(2);
    /// tx.send(1).unwrap();
    /// let mut select = Select::new_biased();
    /// select.send(&tx);
    /// select.recv(&rx);
    /// assert_eq!(select.ready(), 0);
    /// ```
    #[must_use]
    pub fn new_biased() -> Select<'a> {
        Select { biased: true, ..Select::new() }
    }

    /// Adds the operation of sending to `sender`. Returns its index: 0 for the first that is added, then 1, and so on.
    /// No index is used twice.
    ///
    /// ```
    /// use gorun::select::Select;
    /// let (tx, rx) = gorun::channel::<u8>(1);
    /// let mut select = Select::new();
    /// assert_eq!((select.send(&tx), select.recv(&rx)), (0, 1));
    /// ```
    pub fn send<T>(&mut self, sender: &'a Sender<T>) -> usize {
        self.add(Rc::new(SendArm::new(Some(sender))))
    }

    /// Adds the operation of receiving from `receiver`, and returns its index.
    ///
    /// ```
    /// use gorun::select::Select;
    /// let (tx, rx) = gorun::channel(1);
    /// tx.send("word").unwrap();
    /// let mut select = Select::new();
    /// select.recv(&rx);
    /// assert_eq!(select.select().recv(&rx), Ok("word"));
    /// ```
    pub fn recv<T>(&mut self, receiver: &'a Receiver<T>) -> usize {
        self.add(Rc::new(RecvArm::new(Some(receiver))))
    }

    fn add(&mut self, arm: Rc<dyn Renew<'a> + 'a>) -> usize {
        let index = self.next_index;
        self.next_index += 1;
        self.arms.push((index, arm));
        index
    }

    /// Takes an operation out. The others keep their indexes.
    ///
    /// # Panics
    /// When there is none with that index.
    ///
    /// ```
    /// use gorun::select::Select;
    /// let (tx, rx) = gorun::channel::<u8>(1);
    /// let mut select = Select::new();
    /// let (send, recv) = (select.send(&tx), select.recv(&rx));
    /// select.remove(send);
    /// assert!(select.try_ready().is_err());
    /// tx.send(1).unwrap();
    /// assert_eq!(select.try_ready(), Ok(recv));
    /// ```
    pub fn remove(&mut self, index: usize) {
        let place = self.arms.iter().position(|arm| arm.0 == index);
        self.arms.remove(place.expect("Select::remove: there is no operation with this index"));
    }

    fn run(&mut self, wait: Wait) -> Option<SelectedOperation<'a>> {
        // D1.
        for (_, arm) in self.arms.iter_mut().filter(|arm| Rc::strong_count(&arm.1) > 1) {
            *arm = arm.renew();
        }
        run(&self.arms, self.biased, wait).map(|place| {
            let (index, arm) = &self.arms[place];
            SelectedOperation { index: *index, arm: arm.clone(), completed: false }
        })
    }

    /// Selects an operation if one can go on at once. No cancellation point.
    ///
    /// # Errors
    /// When all would have to wait.
    ///
    /// ```
    /// use gorun::select::{Select, TrySelectError};
    /// let (tx, rx) = gorun::channel(1);
    /// let mut select = Select::new();
    /// select.recv(&rx);
    /// assert_eq!(select.try_select().unwrap_err(), TrySelectError);
    /// tx.send(7).unwrap();
    /// assert_eq!(select.try_select().unwrap().recv(&rx), Ok(7));
    /// ```
    pub fn try_select(&mut self) -> Result<SelectedOperation<'a>, TrySelectError> {
        self.run(Wait::Not).ok_or(TrySelectError)
    }

    /// Selects an operation, waiting until one can go on; for ever, if there is none.
    ///
    /// ```
    /// use gorun::select::Select;
    /// let (tx, rx) = gorun::channel(0);
    /// let receiver = gorun::go(move || rx.recv());
    /// let mut select = Select::new();
    /// let send = select.send(&tx);
    /// let operation = select.select();
    /// assert_eq!(operation.index(), send);
    /// operation.send(&tx, "made when it was needed").unwrap();
    /// assert!(receiver.join().unwrap().is_ok());
    /// ```
    pub fn select(&mut self) -> SelectedOperation<'a> {
        self.run(Wait::Until(None)).unwrap_or_else(|| unreachable!("there is no deadline"))
    }

    /// As [`select`](Self::select), for `timeout` at most.
    ///
    /// # Errors
    /// When the time is up.
    ///
    /// ```
    /// use gorun::select::{Select, SelectTimeoutError};
    /// let (_tx, rx) = gorun::channel::<u8>(1);
    /// let mut select = Select::new();
    /// select.recv(&rx);
    /// let late = select.select_timeout(std::time::Duration::from_millis(2));
    /// assert_eq!(late.unwrap_err(), SelectTimeoutError);
    /// ```
    pub fn select_timeout(&mut self, timeout: Duration) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.run(Wait::for_at_most(timeout)).ok_or(SelectTimeoutError)
    }

    /// As [`select`](Self::select), until `deadline` at most.
    ///
    /// # Errors
    /// When the time is up.
    ///
    /// ```
    /// use gorun::select::{Select, SelectTimeoutError};
    /// let silent = gorun::never::<u8>();
    /// let mut select = Select::new();
    /// select.recv(&silent);
    /// let late = select.select_deadline(std::time::Instant::now());
    /// assert_eq!(late.unwrap_err(), SelectTimeoutError);
    /// ```
    pub fn select_deadline(&mut self, deadline: Instant) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.run(Wait::Until(Some(deadline))).ok_or(SelectTimeoutError)
    }

    /// The index of an operation that need not wait now. Another goroutine may be faster than the one who asks.
    ///
    /// # Errors
    /// When all would have to wait.
    ///
    /// ```
    /// use gorun::select::{Select, TryReadyError};
    /// let (tx, rx) = gorun::channel(1);
    /// let mut select = Select::new();
    /// let recv = select.recv(&rx);
    /// assert_eq!(select.try_ready(), Err(TryReadyError));
    /// tx.send(1).unwrap();
    /// assert_eq!(select.try_ready(), Ok(recv));
    /// assert_eq!(rx.len(), 1);
    /// ```
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        self.look(Wait::Not).ok_or(TryReadyError)
    }

    /// Waits until an operation need not wait, and returns its index. Nothing is sent or received; so two that wait
    /// for each other in this way on a channel without capacity wait for ever.
    ///
    /// ```
    /// use gorun::select::Select;
    /// let (tx, rx) = gorun::channel(0);
    /// gorun::go(move || tx.send(1));
    /// let mut select = Select::new();
    /// select.recv(&rx);
    /// assert_eq!(select.ready(), 0);
    /// assert_eq!(rx.try_recv(), Ok(1));
    /// ```
    pub fn ready(&mut self) -> usize {
        self.look(Wait::Until(None)).unwrap_or_else(|| unreachable!("there is no deadline"))
    }

    /// As [`ready`](Self::ready), for `timeout` at most.
    ///
    /// # Errors
    /// When the time is up.
    ///
    /// ```
    /// use gorun::select::{ReadyTimeoutError, Select};
    /// let silent = gorun::never::<u8>();
    /// let mut select = Select::new();
    /// select.recv(&silent);
    /// assert_eq!(select.ready_timeout(std::time::Duration::from_millis(1)), Err(ReadyTimeoutError));
    /// ```
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<usize, ReadyTimeoutError> {
        self.look(Wait::for_at_most(timeout)).ok_or(ReadyTimeoutError)
    }

    /// As [`ready`](Self::ready), until `deadline` at most.
    ///
    /// # Errors
    /// When the time is up.
    ///
    /// ```
    /// use gorun::select::{ReadyTimeoutError, Select};
    /// let silent = gorun::never::<u8>();
    /// let mut select = Select::new();
    /// select.recv(&silent);
    /// assert_eq!(select.ready_deadline(std::time::Instant::now()), Err(ReadyTimeoutError));
    /// ```
    pub fn ready_deadline(&mut self, deadline: Instant) -> Result<usize, ReadyTimeoutError> {
        self.look(Wait::Until(Some(deadline))).ok_or(ReadyTimeoutError)
    }

    fn look(&self, wait: Wait) -> Option<usize> {
        run_ready(&self.arms, self.biased, wait).map(|place| self.arms[place].0)
    }
}

impl SelectedOperation<'_> {
    /// Which operation it is: what adding it returned.
    ///
    /// ```
    /// use gorun::select::Select;
    /// let (tx, rx) = gorun::channel::<u8>(1);
    /// let mut select = Select::new();
    /// let (recv, send) = (select.recv(&rx), select.send(&tx));
    /// let operation = select.select();
    /// assert!(operation.index() == send && operation.index() != recv);
    /// operation.send(&tx, 1).unwrap();
    /// ```
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Completes the operation if it sends: `message` goes to `sender`. Never waits.
    ///
    /// # Errors
    /// The channel is closed, and the value comes back.
    ///
    /// # Panics
    /// When it is not the sender that the operation was added with; what was selected is undone then.
    ///
    /// ```
    /// use gorun::select::Select;
    /// let (tx, rx) = gorun::channel(1);
    /// let mut select = Select::new();
    /// select.send(&tx);
    /// let operation = select.select();
    /// assert!(tx.try_send(1).is_err(), "the place is the operation's");
    /// operation.send(&tx, 2).unwrap();
    /// assert_eq!(rx.recv(), Ok(2));
    /// ```
    pub fn send<T>(mut self, sender: &Sender<T>, message: T) -> Result<(), SendError<T>> {
        let core = &*sender.core;
        assert!(
            self.arm.side() == Side::Send && self.arm.address() == std::ptr::from_ref(core).addr(),
            "SelectedOperation::send: another operation was selected"
        );
        self.completed = true;
        Permit::new(self.arm.take_permit().then_some(core)).send(message)
    }

    /// Completes the operation if it receives. Never waits.
    ///
    /// # Errors
    /// The channel is closed and empty.
    ///
    /// # Panics
    /// When it is not the receiver that the operation was added with; what was selected is undone then.
    ///
    /// ```
    /// use gorun::{chan::RecvError, select::Select};
    /// let (tx, rx) = gorun::channel::<u8>(1);
    /// drop(tx);
    /// let mut select = Select::new();
    /// select.recv(&rx);
    /// assert_eq!(select.select().recv(&rx), Err(RecvError));
    /// ```
    pub fn recv<T>(mut self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        assert!(
            self.arm.side() == Side::Receive && self.arm.address() == std::ptr::from_ref(&*receiver.core).addr(),
            "SelectedOperation::recv: another operation was selected"
        );
        self.completed = true;
        let mut value: Option<T> = None;
        // SAFETY: A1: both live and have one address, so they are one channel, of this type; and the arm receives.
        unsafe { self.arm.take_value(NonNull::from(&mut value).cast()) };
        value.ok_or(RecvError)
    }
}

impl Drop for SelectedOperation<'_> {
    fn drop(&mut self) {
        if !self.completed {
            self.arm.abandon();
            assert!(std::thread::panicking(), "a `SelectedOperation` was dropped without being completed");
        }
    }
}

impl Default for Select<'_> {
    fn default() -> Self {
        Select::new()
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.arms.iter().map(|(index, arm)| (index, arm.side()))).finish()
    }
}

impl fmt::Debug for SelectedOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectedOperation").field("index", &self.index).finish_non_exhaustive()
    }
}

macro_rules! errors {
    ($($error:ty: $text:literal),*) => {$(
        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($text)
            }
        }

        impl std::error::Error for $error {}
    )*};
}

errors!(
    TrySelectError: "every operation would have to wait",
    SelectTimeoutError: "timed out waiting for an operation",
    TryReadyError: "no operation is ready",
    ReadyTimeoutError: "timed out waiting for an operation to be ready"
);
