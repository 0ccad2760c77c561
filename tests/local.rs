//! Goroutine-local storage where it is the same for a goroutine and for a plain thread, each test in both: order, exit,
//! `reset`, `unload`, looks.
//!
//! The faults of go-tls that DESIGN.md lists are the tests named `gotls_*`.

mod local_support;

use gorun::goroutine_local;
use gorun::local::{self, AccessError};
use local_support::*;
use std::cell::{Cell, OnceCell};

#[test]
fn gotls_overwriting_and_deleting_close_the_value() {
    everywhere(&["one", "two", "three"], |log| {
        local::set("key", noisy(&log, "one"));
        local::set("key", noisy(&log, "two"));
        assert_eq!(log.0.lock().unwrap().len(), 1);
        assert!(local::del(&"key"));
        assert_eq!(log.0.lock().unwrap().len(), 2);
        assert!(!local::contains(&"key") && !local::del(&"key"));
        local::set("key", noisy(&log, "three"));
    });
}

#[test]
fn gotls_storage_closes_in_reverse_order_typed_and_dynamic_alike() {
    everywhere(&["7", "C", "y", "B", "x", "A"], |log| {
        put(&A, noisy(&log, "A"));
        local::set("x", noisy(&log, "x"));
        put(&B, noisy(&log, "B"));
        local::set("y", noisy(&log, "y"));
        put(&C, noisy(&log, "C"));
        local::set(7, noisy(&log, "7"));
    });
}

#[test]
fn an_overwritten_value_is_the_newest() {
    everywhere(&["old x", "new x", "y"], |log| {
        local::set("x", noisy(&log, "old x"));
        local::set("y", noisy(&log, "y"));
        local::set("x", noisy(&log, "new x"));
    });
}

#[test]
fn gotls_handlers_added_during_exit_run() {
    everywhere(&["last", "first", "added", "added by added"], |log| {
        let second = log.clone();
        local::at_exit(move || {
            second.add("first");
            let third = second.clone();
            local::at_exit(move || {
                third.add("added");
                local::at_exit(move || third.add("added by added"));
            });
        });
        local::at_exit(move || log.add("last"));
    });
}

#[test]
fn gotls_a_panic_in_a_handler_or_destructor_is_counted_and_the_rest_run() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a payload that panics when dropped");
        }
    }
    let before = local::exit_panics();
    everywhere(&["handler", "C", "A"], |log| {
        put(&A, noisy(&log, "A"));
        put(&B, on_drop(|| panic!("expected: in a destructor")));
        put(&C, noisy(&log, "C"));
        local::at_exit(move || log.add("handler"));
        local::at_exit(|| panic!("expected: in a handler"));
        local::at_exit(|| std::panic::panic_any(Bomb));
    });
    assert_eq!(local::exit_panics() - before, 9);
}

#[test]
fn gotls_storing_in_close_does_not_leak() {
    everywhere(&["A", "handler", "stored typed", "stored dynamic"], |log| {
        put(
            &A,
            on_drop(move || {
                log.add("A");
                local::set("stored", noisy(&log, "stored dynamic"));
                put(&B, noisy(&log, "stored typed"));
                local::at_exit(move || log.add("handler"));
            }),
        );
    });
}

#[test]
fn handlers_see_all_storage_and_may_change_it() {
    everywhere(&["dynamic 2", "typed 6"], |log| {
        N.set(6);
        local::set("n", 1);
        let (second, first) = (log.clone(), log);
        local::at_exit(move || first.add(format!("typed {}", N.get())));
        local::at_exit(move || {
            local::set("n", 2);
            second.add(format!("dynamic {}", local::get::<_, i32>(&"n").unwrap()));
        });
    });
}

#[test]
fn a_value_under_drop_is_gone_and_the_others_are_not() {
    everywhere(&["C: C is gone, B is there", "B: A is there, C is new", "A"], |log| {
        put(&A, noisy(&log, "A"));
        let (b, c) = (log.clone(), log);
        put(
            &B,
            on_drop(move || {
                assert!(A.with(|a| a.get().is_some()));
                assert!(B.try_with(|_| ()).is_err());
                assert!(C.with(|c| c.get().is_none()), "a new C, for the next round");
                b.add("B: A is there, C is new");
            }),
        );
        put(
            &C,
            on_drop(move || {
                let refused: Result<(), AccessError> = C.try_with(|_| ());
                assert!(refused.is_err());
                assert!(panics(|| C.with(|_| ())).contains("destruction"));
                assert!(B.with(|b| b.get().is_some()));
                c.add("C: C is gone, B is there");
            }),
        );
    });
}

#[test]
fn a_dynamic_value_under_drop_is_absent_and_older_ones_are_there() {
    everywhere(&["new", "old"], |log| {
        local::set("old", noisy(&log, "old"));
        local::set(
            "new",
            on_drop(move || {
                assert!(!local::contains(&"new") && local::contains(&"old"));
                log.add("new");
            }),
        );
    });
}

#[test]
fn unload_discards_handlers_and_drops_everything() {
    everywhere(&["closure dropped", "x", "B", "unloaded", "later"], |log| {
        put(&B, noisy(&log, "B"));
        local::set("x", noisy(&log, "x"));
        let captured = noisy(&log, "closure dropped");
        local::at_exit(move || {
            let _captured = captured;
            unreachable!("discarded");
        });
        local::unload();
        log.add("unloaded");
        assert!(!local::contains(&"x") && B.with(|b| b.get().is_none()));
        local::set("later", noisy(&log, "later"));
    });
}

#[test]
fn unload_in_a_handler_ends_the_cleaning() {
    everywhere(&["handler", "A"], |log| {
        put(&A, noisy(&log, "A"));
        local::at_exit(|| unreachable!("discarded"));
        local::at_exit(move || {
            log.add("handler");
            local::unload();
        });
    });
}

#[test]
fn reset_keeps_handlers_and_uninitialises_keys() {
    everywhere(&["x", "A", "reset", "handler", "stays"], |log| {
        put(&A, noisy(&log, "A"));
        N.set(9);
        local::set("x", noisy(&log, "x"));
        let handler = log.clone();
        local::at_exit(move || handler.add("handler"));
        local::reset();
        assert_eq!(N.get(), 5);
        log.add("reset");
        local::set("stays", noisy(&log, "stays"));
    });
}

#[test]
fn what_a_destructor_stores_during_reset_stays() {
    everywhere(&["A", "after", "stored"], |log| {
        let inner = log.clone();
        put(
            &A,
            on_drop(move || {
                inner.add("A");
                put(&B, noisy(&inner, "stored"));
            }),
        );
        local::reset();
        log.add("after");
    });
}

#[test]
fn a_destructor_may_reset_and_unload_and_then_store() {
    // The value under drop keeps its memory while the record around it is emptied and filled anew.
    everywhere(&["older", "intact", "new", "end"], |log| {
        struct Careful(Log, [u64; 4]);
        impl Drop for Careful {
            fn drop(&mut self) {
                local::unload();
                N.set(u64::MAX);
                local::set(1u64, u64::MAX);
                local::set(2u64, noisy(&self.0, "new"));
                assert_eq!(self.1, [11, 22, 33, 44], "overwritten by what was stored");
                self.0.add("intact");
            }
        }
        local::set(0, noisy(&log, "older"));
        local::set("careful", Careful(log.clone(), [11, 22, 33, 44]));
        assert!(local::del(&"careful"));
        local::reset();
        log.add("end");
    });
}

#[test]
fn a_small_value_under_drop_is_not_overwritten() {
    everywhere(&["77", "77"], |log| {
        struct Small(Cell<u64>, &'static Log);
        impl Drop for Small {
            fn drop(&mut self) {
                local::unload();
                N.set(u64::MAX);
                self.1.add(self.0.get().to_string());
            }
        }
        let log: &'static Log = Box::leak(Box::new(log));
        goroutine_local! { static SMALL: OnceCell<Small> = const { OnceCell::new() } }
        SMALL.with(|s| assert!(s.set(Small(Cell::new(77), log)).is_ok()));
        local::reset();
        local::unload();
        local::set(1u8, Small(Cell::new(77), log));
        local::del(&1u8);
    });
}

#[test]
fn a_panic_in_a_destructor_goes_through_reset_after_the_rest() {
    everywhere(&["C", "A"], |log| {
        put(&A, noisy(&log, "A"));
        put(&B, on_drop(|| panic!("expected: B")));
        put(&C, noisy(&log, "C"));
        assert_eq!(panics(local::reset), "expected: B");
        assert_eq!(log.0.lock().unwrap().len(), 2);
        assert!(A.with(|a| a.get().is_none()));
    });
}

#[test]
fn reset_and_unload_in_a_typed_with_panic_and_harm_nothing() {
    everywhere(&["A"], |log| {
        put(&A, noisy(&log, "A"));
        A.with(|a| {
            assert!(panics(local::reset).contains("reset"));
            assert!(panics(local::unload).contains("unload"));
            assert!(a.get().is_some() && log.0.lock().unwrap().is_empty());
        });
        N.scope(Cell::new(1), || assert!(panics(local::reset).contains("scope")));
        assert!(panics(|| A.with(|_| panic!("expected"))).contains("expected"));
        local::reset();
    });
}

#[test]
fn a_dynamic_value_deleted_replaced_or_reset_under_a_look_lives_until_its_end() {
    everywhere(&["in", "one", "in", "two", "in", "three", "end", "new"], |log| {
        local::set("k", (7, noisy(&log, "one")));
        local::with(&"k", |v: &(i32, OnDrop)| {
            local::with(&"k", |_: &(i32, OnDrop)| assert!(local::del(&"k")));
            assert!(!local::contains(&"k"));
            log.add("in");
            assert_eq!(v.0, 7);
        });
        local::set("k", (8, noisy(&log, "two")));
        local::with(&"k", |v: &(i32, OnDrop)| {
            local::set("k", (9, noisy(&log, "three")));
            log.add("in");
            assert_eq!(v.0, 8);
        });
        local::with(&"k", |v: &(i32, OnDrop)| {
            local::reset();
            local::set("new", noisy(&log, "new"));
            log.add("in");
            assert_eq!(v.0, 9);
        });
        log.add("end");
    });
}

#[test]
fn a_typed_key_can_be_removed() {
    everywhere(&["B", "dropped A", "new A"], |log| {
        assert!(A.remove().is_none());
        put(&A, noisy(&log, "A"));
        put(&B, noisy(&log, "B"));
        // Moved out, so not dropped; and the others stay.
        let a = A.remove().unwrap();
        drop(B.remove());
        assert_eq!(*log.0.lock().unwrap(), ["B"]);
        std::mem::forget(a);
        // The key begins anew.
        A.with(|cell| assert!(cell.get().is_none()));
        put(&A, noisy(&log, "dropped A"));
        drop(A.remove());
        N.set(9);
        assert_eq!((N.remove().map(Cell::into_inner), N.get()), (Some(9), 5));
        put(&A, noisy(&log, "new A"));
    });
}

#[test]
fn a_removed_key_is_not_inherited() {
    goroutine_local! {
        #[inherit]
        static INHERITED: Cell<u64> = const { Cell::new(0) };
    }
    everywhere(&[], |_| {
        INHERITED.set(7);
        assert_eq!(gorun::go(|| INHERITED.get()).join().unwrap(), 7);
        assert_eq!(INHERITED.remove().map(Cell::into_inner), Some(7));
        assert_eq!(gorun::go(|| INHERITED.get()).join().unwrap(), 0);
        // What was inherited is the child's to remove.
        INHERITED.set(8);
        let child = gorun::go(|| (INHERITED.remove().map(Cell::into_inner), INHERITED.get()));
        assert_eq!((child.join().unwrap(), INHERITED.get()), ((Some(8), 0), 8));
    });
}

#[test]
fn a_key_is_not_removed_while_it_is_looked_at() {
    everywhere(&[], |_| {
        N.set(1);
        let refused = "LocalKey::remove() was called while a closure looks at a goroutine-local";
        assert!(N.with(|_| panics(|| _ = N.remove())).contains(refused));
        assert!(N.scope(Cell::new(2), || panics(|| _ = N.remove())).contains(refused));
        assert_eq!(N.remove().map(Cell::into_inner), Some(1));
        // Of another key's destructor and of a handler it is.
        local::at_exit(|| assert_eq!(N.remove().map(Cell::into_inner), Some(3)));
        N.set(3);
    });
}
