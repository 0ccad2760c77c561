//! `SingleFlight`: of many who want the same at the same time one gets it for all, Go's `golang.org/x/sync/singleflight`.
//!
//! The table is under a lock that parks, as keys are compared by users' code. Each call is a [`OnceLock`]: who comes first
//! runs its function in it, and if that is ended by an abort the next one runs its own.
//!
//! * **D1.** A call that is over is not in the table: it is taken out before anybody sees its outcome.
//! * **D2.** Who leaves a call that is not over, as the last, takes it out of the table.

use super::mutex::Mutex;
use super::once_lock::OnceLock;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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

type Call<V> = OnceLock<Outcome<V>>;

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
        let call = {
            let mut calls = self.calls.lock();
            match calls.get(&key) {
                Some(call) => call.clone(),
                None => calls.entry(key.clone()).or_default().clone(),
            }
        };
        let seat = Seat { flights: self, key: &key, call: &call };
        let mut panic = None;
        let outcome = call.get_or_init(|| {
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
            let shared = seat.take_out().map_or(Arc::strong_count(&call) > 1, |count| count > 2);
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
struct Seat<'a, K: Eq + Hash, V> {
    flights: &'a SingleFlight<K, V>,
    key: &'a K,
    call: &'a Arc<Call<V>>,
}

impl<K: Eq + Hash, V> Seat<'_, K, V> {
    /// Takes the call out of the table, if it is there, and tells how many references there were.
    fn take_out(&self) -> Option<usize> {
        self.take_out_if(|_| true)
    }

    fn take_out_if(&self, condition: impl Fn(usize) -> bool) -> Option<usize> {
        let (count, taken) = {
            let mut calls = self.flights.calls.lock_shielded();
            let count = Arc::strong_count(self.call);
            let is_ours = calls.get(self.key).is_some_and(|call| Arc::ptr_eq(call, self.call));
            (count, if is_ours && condition(count) { calls.remove_entry(self.key) } else { None })
        };
        taken.map(|_| count)
    }
}

impl<K: Eq + Hash, V> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        if self.call.get().is_none() {
            // D2: the table's, and ours.
            self.take_out_if(|count| count <= 2);
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
