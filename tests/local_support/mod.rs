//! What the storage tests share: a log of what happened in which order, keys, and a run in a goroutine and in a thread.

#![allow(dead_code, reason = "each test file uses its part")]

use gorun::goroutine_local;
use gorun::local;
use std::cell::{Cell, OnceCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(pub(crate) Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }
    pub(crate) fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Calls a closure when dropped.
pub(crate) struct OnDrop(Option<Box<dyn FnOnce()>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

pub(crate) fn on_drop(f: impl FnOnce() + 'static) -> OnDrop {
    OnDrop(Some(Box::new(f)))
}

pub(crate) fn noisy(log: &Log, name: &'static str) -> OnDrop {
    let log = log.clone();
    on_drop(move || log.add(name))
}

goroutine_local! {
    pub(crate) static A: OnceCell<OnDrop> = const { OnceCell::new() };
    pub(crate) static B: OnceCell<OnDrop> = const { OnceCell::new() };
    pub(crate) static C: OnceCell<OnDrop> = const { OnceCell::new() };
    pub(crate) static N: Cell<u64> = const { Cell::new(5) };
}

pub(crate) fn put(key: &'static local::LocalKey<OnceCell<OnDrop>>, value: OnDrop) {
    key.with(|cell| assert!(cell.set(value).is_ok()));
}

/// Runs `body` in a goroutine, in one that shares its worker's thread-locals, and in a plain thread, each to its very
/// end; the log must be `expected` every time.
pub(crate) fn everywhere(expected: &[&str], body: fn(Log)) {
    let log = Log::default();
    let (there, pinned, done) = (log.clone(), log.clone(), log.clone());
    gorun::go(move || body(there)).join().unwrap();
    assert_eq!(done.taken(), expected, "in a goroutine");
    let shares = gorun::Builder::new().thread_locals(gorun::runtime::ThreadLocals::Pinned);
    shares.go(move || body(pinned)).unwrap().join().unwrap();
    assert_eq!(done.taken(), expected, "in a pinned goroutine");
    std::thread::spawn(move || body(log)).join().unwrap();
    assert_eq!(done.taken(), expected, "in a plain thread");
}

pub(crate) fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(s) => *s,
        Err(payload) => payload.downcast::<&str>().map_or_else(|_| String::new(), |s| (*s).to_string()),
    }
}

pub(crate) fn panics(f: impl FnOnce()) -> String {
    message(catch_unwind(AssertUnwindSafe(f)).expect_err("it should have panicked"))
}
