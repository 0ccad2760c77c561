//! What the process counts of exit paths: those through the cleaning exit, panics in them, and those that found no end.
//!
//! The counters are the process's, so the tests have it to themselves and take turns.

use gorun::local::{self, cleaning_exits};
use std::cell::{Cell, OnceCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

gorun::goroutine_local! {
    static USED: Cell<u32> = const { Cell::new(0) };
    static TELLS: OnceCell<Tell> = const { OnceCell::new() };
}

/// Sends its name when dropped.
struct Tell(Sender<&'static str>, &'static str);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.send(self.1).unwrap();
    }
}

#[test]
fn only_a_goroutine_that_stored_something_enters_the_cleaning_exit() {
    let _turn = my_turn();
    gorun::run(|| {
        let start = cleaning_exits();
        let untouched: Vec<_> = (0..10_000).map(|n| gorun::go(move || n)).collect();
        assert_eq!(untouched.into_iter().map(|h| h.join().unwrap()).max(), Some(9_999));
        gorun::go(|| gorun::goexit()).join().unwrap_err();
        gorun::go(|| std::panic::resume_unwind(Box::new(1))).join().unwrap_err();
        assert_eq!(cleaning_exits(), start, "the target of an untouched goroutine is bare");

        gorun::go(|| USED.set(1)).join().unwrap();
        assert_eq!(cleaning_exits(), start + 1, "patched by the first value");
        gorun::go(|| gorun::at_exit(|| ())).join().unwrap();
        assert_eq!(cleaning_exits(), start + 2, "patched by the first handler");
        gorun::go(|| gorun::local::set("key", 1)).join().unwrap();
        assert_eq!(cleaning_exits(), start + 3, "patched by the first dynamic value");

        gorun::go(|| {
            USED.set(1);
            gorun::local::set("key", 1);
            gorun::at_exit(|| ());
            gorun::local::unload();
        })
        .join()
        .unwrap();
        assert_eq!(cleaning_exits(), start + 3, "patched back by unload");

        // The same control blocks and stacks again: nothing of the earlier goroutines is left in them.
        let again: Vec<_> = (0..1000).map(|_| gorun::go(|| gorun::local::contains(&"key"))).collect();
        again.into_iter().for_each(|h| assert!(!h.join().unwrap()));
        assert_eq!(cleaning_exits(), start + 3);
    });
}

#[test]
fn a_handler_may_leave_by_goexit_or_unwind() {
    let _turn = my_turn();
    let (tx, rx) = channel();
    let before = local::exit_panics();
    gorun::go(move || {
        TELLS.with(|tells| assert!(tells.set(Tell(tx.clone(), "storage")).is_ok()));
        gorun::at_exit(move || tx.send("first in").unwrap());
        gorun::at_exit(|| gorun::goexit());
        gorun::at_exit(|| std::panic::resume_unwind(Box::new("payload")));
    })
    .join()
    .unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["first in", "storage"]);
    assert_eq!(local::exit_panics() - before, 1, "goexit is no panic");
}

#[test]
fn two_typed_keys_that_make_each_other_come_to_an_end() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Ping;
    struct Pong;
    impl Drop for Ping {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            let _ = PONG.try_with(|_| ());
        }
    }
    impl Drop for Pong {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            let _ = PING.try_with(|_| ());
        }
    }
    gorun::goroutine_local! {
        static PING: Ping = const { Ping };
        static PONG: Pong = const { Pong };
    }
    let _turn = my_turn();
    let before = local::exit_overruns();
    gorun::go(|| PING.with(|_| ())).join().unwrap();
    assert_eq!(local::exit_overruns() - before, 1);
    assert_eq!(DROPPED.load(Ordering::Relaxed), 9, "eight rounds, and the pass in which nothing can be stored");
}
