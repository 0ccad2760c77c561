//! `SingleFlight`: of many who want the same at the same time one gets it for all, Go's `golang.org/x/sync/singleflight`.
//!
//! The table is under a lock that parks, as keys are compared by users' code. Each call is a [`OnceLock`]: who has made it
//! runs its function in it, and if that is ended by an abort the next one runs its own.
//!
//! * **D1.** A call that is over is not in the table: it is taken out before anybody sees its outcome.
//! * **D2.** Who leaves a call that is not over, as the last, takes it out of the table.
//! * **D3.** Nobody begins before who has made the call has begun, or is gone: its goroutine may have still to run.

use super::mutex::Mutex;
use super::once_lock::OnceLock;
use super::wait_group::WaitGroup;
use crate::chan::{Receiver, channel};
use gorun_scheduler::contained;
use std::any::Any;
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// Calls of which one at a time is made for each key, for all who want it: Go's `singleflight.Group`.
///
/// ```
/// use gorun::sync::{Barrier, SingleFlight};
/// use std::sync::Arc;
/// let flights = Arc::new(SingleFlight::new());
/// let lookups: Vec<_> = (0..3)
///     .map(|_| {
///         let flights = flights.clone();
///         gorun::go(move || flights.run("gopher", || { gorun::yield_now(); 42 }).0)
///     })
///     .collect();
/// for lookup in lookups { assert_eq!(lookup.join().unwrap(), 42); }
/// ```
pub struct SingleFlight<K, V> {
    calls: Mutex<HashMap<K, Arc<Call<V>>>>,
}

// No code of a user's but `K`'s `Hash` and `Eq` runs while it is being changed; a call that panics ends as one that did.
impl<K, V> UnwindSafe for SingleFlight<K, V> {}
impl<K, V> RefUnwindSafe for SingleFlight<K, V> {}

struct Call<V> {
    outcome: OnceLock<Outcome<V>>,
    /// D3: one is counted until then.
    unbegun: WaitGroup,
}

/// Counts down when dropped: who has made the call has begun.
struct Begins(WaitGroup);

impl Drop for Begins {
    fn drop(&mut self) {
        self.0.done();
    }
}

struct Outcome<V> {
    /// Or the panic's message.
    value: Result<V, String>,
    shared: bool,
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone,
{
    /// One without calls.
    ///
    /// ```
    /// let flights = gorun::sync::SingleFlight::<u32, String>::new();
    /// # drop(flights);
    /// ```
    #[must_use]
    pub fn new() -> SingleFlight<K, V> {
        SingleFlight { calls: Mutex::new(HashMap::new()) }
    }

    /// Calls `f`, unless another call with `key` is under way: then waits for that one, and gives what it has given.
    /// Also says whether the value was given to several. Go's `Do`.
    ///
    /// What `f` does happens before all that wait for it go on. If it is ended by a [`goexit`](crate::goexit) or an abort
    /// of its goroutine, the next one who waits calls its own. (With Go a `Goexit` ends them all.) A cancellation point.
    ///
    /// # Panics
    /// If `f` panics, also in those who wait for it: with the message, if it has one.
    ///
    /// ```
    /// let flights = gorun::sync::SingleFlight::new();
    /// assert_eq!(flights.run("key", || 1), (1, false));
    /// assert_eq!(flights.run("key", || 2), (2, false)); // the other one was over
    /// ```
    pub fn run(&self, key: K, f: impl FnOnce() -> V) -> (V, bool) {
        Seat::take(self, key).fly(f)
    }

    /// As [`run`](SingleFlight::run), in a goroutine, with a channel that will receive what it gives: for a `select!`. The
    /// call counts as under way when this returns. Go's `DoChan`.
    ///
    /// The channel is closed afterwards; without a value, if `f` panics or is ended. (With Go a panic ends the process, and
    /// "the returned channel will not be closed".) Without anybody to receive it `f` goes on, and the value is dropped.
    ///
    /// # Panics
    /// As [`gorun::go`](crate::go); the call is not under way then. A cancellation point.
    ///
    /// ```
    /// use gorun::sync::SingleFlight;
    /// use std::{sync::Arc, time::Duration};
    /// let flights = Arc::new(SingleFlight::new());
    /// let [one, other] = ["a", "b"].map(|s| SingleFlight::run_chan(&flights, "key", move || { gorun::yield_now(); s }));
    /// let value = gorun::select! {
    ///     recv(one) -> value => value.unwrap().0,
    ///     default(Duration::from_secs(60)) => "late",
    /// };
    /// assert_eq!(value, "a");
    /// # let _either = other.recv();
    /// ```
    #[track_caller]
    pub fn run_chan(this: &Arc<Self>, key: K, f: impl FnOnce() -> V + Send + 'static) -> Receiver<(V, bool)>
    where
        K: Send + 'static,
        V: Send + Sync + 'static,
    {
        let seat = Seat::take(this.clone(), key);
        let (sender, receiver) = channel(1);
        crate::go(move || {
            // Nobody may want it any more.
            let _sent = sender.send(seat.fly(f));
        });
        receiver
    }

    /// Lets the next call with `key` be a new one, though one is under way. Go's `Forget`. A cancellation point.
    ///
    /// ```
    /// let flights = gorun::sync::SingleFlight::<_, u8>::new();
    /// flights.forget(&"key");
    /// ```
    pub fn forget(&self, key: &K) {
        let forgotten = self.calls.lock().remove_entry(key);
        drop(forgotten);
    }
}

/// Somebody in a call.
struct Seat<S, K, V>
where
    S: Deref<Target = SingleFlight<K, V>>,
    K: Eq + Hash,
{
    flights: S,
    key: K,
    call: Arc<Call<V>>,
    /// D3: if it has made the call.
    begins: Cell<Option<Begins>>,
}

impl<S, K, V> Seat<S, K, V>
where
    S: Deref<Target = SingleFlight<K, V>>,
    K: Clone + Eq + Hash,
    V: Clone,
{
    /// In the call that is under way, or in a new one.
    fn take(flights: S, key: K) -> Seat<S, K, V> {
        let (call, begins) = {
            let mut calls = flights.calls.lock();
            match calls.get(&key) {
                Some(call) => (call.clone(), None),
                None => {
                    let unbegun = WaitGroup::new();
                    unbegun.add(1);
                    let begins = Begins(unbegun.clone());
                    let call = Arc::new(Call { outcome: OnceLock::new(), unbegun });
                    calls.insert(key.clone(), call.clone());
                    (call, Some(begins))
                }
            }
        };
        Seat { flights, key, call, begins: Cell::new(begins) }
    }

    fn fly(&self, f: impl FnOnce() -> V) -> (V, bool) {
        let begins = self.begins.take();
        if begins.is_none() {
            self.call.unbegun.wait();
        }
        let mut panic = None;
        let outcome = self.call.outcome.get_or_init(|| {
            drop(begins);
            let value = match catch_unwind(AssertUnwindSafe(f)) {
                Ok(value) => Ok(value),
                Err(payload) if gorun_scheduler::is_panic(&*payload) => {
                    let text = message(&*payload).to_owned();
                    panic = Some(payload);
                    Err(text)
                }
                Err(goexit_or_abort) => resume_unwind(goexit_or_abort),
            };
            // D1. The references are the table's, ours, and those of the others.
            let shared = self.take_out().map_or(Arc::strong_count(&self.call) > 1, |count| count > 2);
            Outcome { value, shared }
        });
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
        match &outcome.value {
            Ok(value) => (value.clone(), outcome.shared),
            Err(text) => resume_unwind(Box::new(text.clone())),
        }
    }
}

impl<S, K, V> Seat<S, K, V>
where
    S: Deref<Target = SingleFlight<K, V>>,
    K: Eq + Hash,
{
    /// Takes the call out of the table, if it is there, and tells how many references there were.
    fn take_out(&self) -> Option<usize> {
        self.take_out_if(|_| true)
    }

    fn take_out_if(&self, condition: impl Fn(usize) -> bool) -> Option<usize> {
        let (count, taken) = {
            let mut calls = self.flights.calls.lock_shielded();
            let count = Arc::strong_count(&self.call);
            let is_ours = calls.get(&self.key).is_some_and(|call| Arc::ptr_eq(call, &self.call));
            (count, if is_ours && condition(count) { calls.remove_entry(&self.key) } else { None })
        };
        taken.map(|_| count)
    }
}

impl<S, K, V> Drop for Seat<S, K, V>
where
    S: Deref<Target = SingleFlight<K, V>>,
    K: Eq + Hash,
{
    fn drop(&mut self) {
        if self.call.outcome.get().is_none() {
            // D2: the table's, and ours. Its `Hash` or `Eq` may be what we are being unwound by. What stays in the table then is
            // a call that has not begun, for the next one.
            contained(|| _ = self.take_out_if(|count| count <= 2));
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or(payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("gorun: a SingleFlight's function panicked")
}

impl<K: Clone + Eq + Hash, V: Clone> Default for SingleFlight<K, V> {
    fn default() -> SingleFlight<K, V> {
        SingleFlight::new()
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.calls.try_lock().map(|calls| calls.len());
        f.debug_struct("SingleFlight").field("under_way", &calls).finish_non_exhaustive()
    }
}
