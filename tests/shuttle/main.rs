//! Whole primitives, checked by shuttle: small programs under thousands of schedules, by chance and by priorities.
//!
//! `RUSTFLAGS='--cfg shuttle' cargo test --test shuttle --features models`; empty otherwise. The parties are shuttle's threads, which to gorun
//! are plain threads; every access to a lock or an atomic of a primitive may switch to another. Waits without end are
//! deadlocks, which shuttle reports with the schedule (`shuttle::replay`). A wait with a time gives up as soon as it looks
//! and nobody has come; an abort ends it in the same way, but for the unwind.
//!
//! What shuttle does not see: orderings weaker than SeqCst, which are loom's (`sync/models.rs`, `parker/models.rs`), and
//! the scheduler, which is not there.

#![cfg(shuttle)]

mod chan;
mod context;
mod select;
mod sync;

use shuttle::thread::{self, JoinHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A time that is over when it is looked at.
const SOON: Duration = Duration::from_millis(1);

/// Runs `body` under many schedules. How many times as many: `GORUN_SHUTTLE_TIMES`.
fn model(body: impl Fn() + Send + Sync + 'static) {
    let times = std::env::var("GORUN_SHUTTLE_TIMES").map_or(1, |times| times.parse().expect("a number"));
    let body = Arc::new(body);
    let again = body.clone();
    shuttle::check_random(move || again(), 1000 * times);
    // Few preemptions at well-chosen places find what chance needs long for.
    for depth in [2, 4] {
        let again = body.clone();
        shuttle::check_pct(move || again(), 500 * times, depth);
    }
}

/// The threads of a model, which all come to their ends.
#[derive(Default)]
struct Parties(Vec<JoinHandle<()>>);

impl Parties {
    fn add(&mut self, f: impl FnOnce() + Send + 'static) {
        self.0.push(thread::spawn(f));
    }

    fn join(self) {
        self.0.into_iter().for_each(|party| party.join().unwrap());
    }
}

/// What is seen of all that was made: each value is dropped once. Not known to shuttle, so that it costs no schedules.
#[derive(Clone, Default)]
struct Ledger(Arc<Counts>);

#[derive(Default)]
struct Counts {
    made: AtomicUsize,
    alive: AtomicUsize,
}

impl Ledger {
    /// A value with a number of its own, of this maker.
    fn make(&self, maker: usize) -> Value {
        self.0.alive.fetch_add(1, Ordering::SeqCst);
        Value { ledger: self.clone(), maker, number: self.0.made.fetch_add(1, Ordering::SeqCst) }
    }

    /// Nothing is left, neither lost nor dropped twice.
    fn all_gone(&self) {
        assert_eq!(self.0.alive.load(Ordering::SeqCst), 0, "values are left, or were dropped twice");
    }
}

struct Value {
    ledger: Ledger,
    maker: usize,
    number: usize,
}

impl Drop for Value {
    fn drop(&mut self) {
        self.ledger.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A place where parties leave numbers.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<usize>>>);

impl Log {
    fn add(&self, number: usize) {
        self.0.lock().unwrap().push(number);
    }

    fn sorted(&self) -> Vec<usize> {
        let mut all = self.0.lock().unwrap().clone();
        all.sort_unstable();
        all
    }
}

/// What must not be touched by two at once: it switches between the look and the change.
#[derive(Default)]
struct Bare(AtomicUsize);

impl Bare {
    fn add(&self) {
        let before = self.get();
        thread::yield_now();
        self.0.store(before + 1, Ordering::SeqCst);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
