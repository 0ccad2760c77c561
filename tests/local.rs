//! Goroutine-local storage where it is the same for a goroutine and for a plain thread: each test runs in both.
//!
//! The faults of go-tls that DESIGN.md lists are the tests named `gotls_*`.

use gorun::goroutine_local;
use gorun::local::{self, AccessError};
use std::cell::{Cell, OnceCell, RefCell};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Calls a closure when dropped.
struct OnDrop(Option<Box<dyn FnOnce()>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

fn on_drop(f: impl FnOnce() + 'static) -> OnDrop {
    OnDrop(Some(Box::new(f)))
}

fn noisy(log: &Log, name: &'static str) -> OnDrop {
    let log = log.clone();
    on_drop(move || log.add(name))
}

goroutine_local! {
    static A: OnceCell<OnDrop> = const { OnceCell::new() };
    static B: OnceCell<OnDrop> = const { OnceCell::new() };
    static C: OnceCell<OnDrop> = const { OnceCell::new() };
    static N: Cell<u64> = const { Cell::new(5) };
}

fn put(key: &'static local::LocalKey<OnceCell<OnDrop>>, value: OnDrop) {
    key.with(|cell| assert!(cell.set(value).is_ok()));
}

/// Runs `body` in a goroutine and in a plain thread, each to its very end; the log must be `expected` both times.
fn everywhere(expected: &[&str], body: fn(Log)) {
    let log = Log::default();
    let (there, done) = (log.clone(), log.clone());
    gorun::go(move || body(there)).join().unwrap();
    assert_eq!(done.taken(), expected, "in a goroutine");
    std::thread::spawn(move || body(log)).join().unwrap();
    assert_eq!(done.taken(), expected, "in a plain thread");
}

fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(s) => *s,
        Err(payload) => payload.downcast::<&str>().map_or_else(|_| String::new(), |s| (*s).to_string()),
    }
}

fn panics(f: impl FnOnce()) -> String {
    message(catch_unwind(AssertUnwindSafe(f)).expect_err("it should have panicked"))
}

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
    assert_eq!(local::exit_panics() - before, 6);
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
fn take_moves_out_what_has_the_right_type_and_nobody_looks_at() {
    everywhere(&["taken", "end"], |log| {
        local::set("k", noisy(&log, "taken"));
        assert!(local::take::<_, u8>(&"k").is_none());
        local::with(&"k", |_: &OnDrop| {
            assert!(panics(|| drop(local::take::<_, OnDrop>(&"k"))).contains("looks at it"));
        });
        drop(local::take::<_, OnDrop>(&"k").unwrap());
        assert!(local::take::<_, OnDrop>(&"k").is_none());
        log.add("end");
    });
}

#[test]
fn a_clone_that_deletes_its_original() {
    #[derive(PartialEq, Debug)]
    struct Odd(Box<u32>);
    impl Clone for Odd {
        fn clone(&self) -> Odd {
            local::del(&"odd");
            local::set("odd", 1u8);
            Odd(self.0.clone())
        }
    }
    everywhere(&[], |_| {
        local::set("odd", Odd(Box::new(3)));
        assert_eq!(local::get::<_, Odd>(&"odd"), Some(Odd(Box::new(3))));
        assert_eq!(local::get::<_, u8>(&"odd"), Some(1));
    });
}

/// A key whose `Eq` does what it is told.
#[derive(Clone)]
struct Meddler(Option<fn()>);
impl Hash for Meddler {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(1);
    }
}
impl PartialEq for Meddler {
    fn eq(&self, _: &Meddler) -> bool {
        if let Some(f) = self.0 {
            f();
        }
        true
    }
}
impl Eq for Meddler {}

#[test]
fn a_key_whose_eq_changes_the_storage_panics_and_harms_nothing() {
    everywhere(&["v", "v", "v", "v", "v"], |log| {
        let meddle: [fn(); 5] = [
            local::reset,
            local::unload,
            || local::set("other", 2),
            || assert!(local::del(&"other")),
            || assert!(local::take::<_, i32>(&"other").is_some()),
        ];
        for f in meddle {
            local::set("other", 1);
            local::set(Meddler(Some(f)), noisy(&log, "v"));
            // Whichever of the two keys is asked.
            for key in [Meddler(None), Meddler(Some(f))] {
                assert!(panics(|| assert!(local::contains(&key))).contains("Eq of a"));
                assert!(panics(|| local::with(&key, |_: &OnDrop| ()).unwrap()).contains("Eq of a"));
                assert!(panics(|| local::set(key, 1)).contains("Eq of a"));
            }
            assert_eq!(local::get::<_, i32>(&"other"), Some(1));
            local::reset();
        }
    });
}

#[test]
fn dynamic_keys_differ_by_type_and_values_may_be_of_any() {
    everywhere(&[], |_| {
        local::set(1u32, "u32");
        local::set(1i32, Rc::new(5));
        local::set((1, 'x'), vec![1]);
        local::set(String::from("s"), 1.5f32);
        assert_eq!(local::get::<u32, &str>(&1), Some("u32"));
        assert_eq!(local::get::<i32, Rc<i32>>(&1).as_deref(), Some(&5));
        assert_eq!(local::get::<_, Vec<i32>>(&(1, 'x')), Some(vec![1]));
        assert_eq!(local::get::<String, f32>(&"s".into()), Some(1.5));
        assert_eq!(local::get::<i64, &str>(&1), None);
        local::set(1u32, 6u8);
        assert_eq!((local::get::<u32, &str>(&1), local::get::<u32, u8>(&1)), (None, Some(6)));
    });
}

#[test]
fn many_dynamic_keys_behave_as_a_hash_map() {
    everywhere(&[], |_| {
        let mut model = std::collections::HashMap::new();
        let mut x = 12345u64;
        for step in 0..20_000u64 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let key = (x >> 33) % 300;
            match (x >> 20) % 4 {
                0 | 1 => {
                    local::set(key, step);
                    model.insert(key, step);
                }
                2 => assert_eq!(local::del(&key), model.remove(&key).is_some()),
                _ => assert_eq!(local::get::<u64, u64>(&key), model.get(&key).copied()),
            }
        }
        for key in 0..300 {
            assert_eq!(local::take::<u64, u64>(&key), model.remove(&key));
        }
    });
}

#[test]
fn initialisers_may_use_other_keys_but_not_their_own() {
    goroutine_local! {
        static OUTER: u64 = N.get() + INNER.with(|i| *i);
        static INNER: u64 = 10;
        static OWN: u64 = OWN.with(|own| *own);
        static TWICE: u64 = { N.set(N.get() + 1); assert!(N.get() > 6, "expected"); N.get() }
    }
    everywhere(&[], |_| {
        OUTER.with(|o| assert_eq!(*o, 15));
        assert!(panics(|| OWN.with(|_| ())).contains("uses that goroutine-local itself"));
        assert!(panics(|| OWN.with(|_| ())).contains("uses that goroutine-local itself"), "unset again, not stuck");
        assert!(panics(|| TWICE.with(|_| ())).contains("expected"));
        TWICE.with(|t| assert_eq!(*t, 7));
    });
}

#[test]
fn set_and_replace_and_take_as_std_has_them() {
    goroutine_local! {
        static CELL: Cell<String> = panic!("set does not initialise");
        static REF: RefCell<String> = panic!("set does not initialise");
        static INIT: RefCell<Vec<u8>> = RefCell::new(vec![1]);
    }
    everywhere(&[], |_| {
        CELL.set("a".into());
        CELL.set("b".into());
        assert_eq!((CELL.replace("c".into()), CELL.take(), CELL.take()), ("b".into(), "c".into(), String::new()));
        REF.set("a".into());
        REF.set("b".into());
        assert_eq!((REF.replace("c".into()), REF.take(), REF.take()), ("b".into(), "c".into(), String::new()));
        assert_eq!(INIT.replace(vec![2]), [1]);
        INIT.with_borrow_mut(|v| {
            assert!(panics(|| INIT.set(vec![])).contains("borrowed"));
            v.push(3);
        });
        assert_eq!(INIT.with_borrow(Vec::len), 2);
    });
}

#[test]
fn a_cell_value_whose_destructor_uses_its_key() {
    // `set` drops the old value after the new one is in place.
    struct Last(u64);
    impl Drop for Last {
        fn drop(&mut self) {
            if self.0 == 1 {
                drop(CELL.replace(Last(3)));
            }
        }
    }
    goroutine_local! { static CELL: Cell<Last> = const { Cell::new(Last(1)) } }
    everywhere(&[], |_| {
        CELL.with(|_| ());
        CELL.set(Last(2));
        assert_eq!(CELL.replace(Last(4)).0, 3);
    });
}

#[test]
fn scope_restores_what_was_there() {
    everywhere(&["scoped dropped", "panicking dropped"], |log| {
        goroutine_local! {
            static SEEN: (u32, Option<OnDrop>) = (1, None);
            static NEVER: u32 = panic!("scope does not initialise");
        }
        let seen = || SEEN.with(|s| s.0);
        assert_eq!(seen(), 1);
        SEEN.with(|outer| {
            SEEN.scope((2, Some(noisy(&log, "scoped dropped"))), || {
                assert_eq!(seen(), 2);
                assert_eq!(SEEN.scope((3, None), seen), 3);
                assert_eq!(seen(), 2);
            });
            assert_eq!(outer.0, 1);
        });
        assert_eq!(seen(), 1);
        let panicking = || SEEN.scope((4, Some(noisy(&log, "panicking dropped"))), || panic!("expected"));
        assert_eq!(panics(panicking), "expected");
        assert_eq!(seen(), 1);
        assert_eq!(NEVER.scope(5, || NEVER.with(|n| *n)), 5);
        assert!(panics(|| NEVER.with(|_| ())).contains("does not initialise"));
    });
}

#[test]
fn keys_beyond_the_table_in_the_record() {
    macro_rules! keys {
        ($($name:ident)*) => {
            goroutine_local! { $(static $name: OnceCell<OnDrop> = const { OnceCell::new() };)* }
            const KEYS: &[(&str, &local::LocalKey<OnceCell<OnDrop>>)] = &[$((stringify!($name), &$name)),*];
        };
    }
    keys!(K0 K1 K2 K3 K4 K5 K6 K7 K8 K9 K10 K11 K12 K13 K14 K15 K16 K17 K18 K19 K20 K21 K22 K23 K24 K25 K26 K27 K28 K29);
    let expected: Vec<&str> = KEYS.iter().rev().map(|k| k.0).collect();
    everywhere(&expected, |log| {
        for (name, key) in KEYS {
            put(key, noisy(&log, name));
        }
        assert!(KEYS.iter().all(|k| k.1.with(|c| c.get().is_some())));
    });
}

#[test]
fn values_of_any_size_and_alignment() {
    #[repr(align(256))]
    struct Wide(u8);
    goroutine_local! {
        static ZERO: () = ();
        static WIDE: Wide = Wide(3);
        static BIG: [u64; 500] = [7; 500];
        static BYTE: u8 = 1;
    }
    everywhere(&[], |_| {
        ZERO.with(|()| ());
        WIDE.with(|w| assert_eq!((std::ptr::from_ref(w).addr() % 256, w.0), (0, 3)));
        BIG.with(|b| assert!(b.iter().all(|&n| n == 7)));
        BYTE.with(|b| assert_eq!(*b, 1));
        local::set((), Wide(4));
        local::with(&(), |w: &Wide| assert_eq!((std::ptr::from_ref(w).addr() % 256, w.0), (0, 4)));
    });
}

#[test]
fn the_grammar_of_thread_local() {
    mod inner {
        gorun::goroutine_local!(pub(crate) static NO_SEMICOLON: u8 = 1);
        gorun::goroutine_local! { pub(super) static CONST: u8 = const { 1 + 1 } }
        gorun::goroutine_local! {
            /// Documented.
            #[allow(dead_code, reason = "only declared")]
            pub static UNUSED: u8 = 3;
            #[inherit]
            /// Attributes in any order.
            pub static INHERITED: std::cell::Cell<u8> = const { std::cell::Cell::new(4) };
            #[inherit(twice)]
            pub static HOOKED: u8 = const { 5 }
        }
        gorun::goroutine_local! {}
        fn twice(n: &u8) -> u8 {
            n * 2
        }
    }
    everywhere(&[], |_| {
        assert_eq!((inner::NO_SEMICOLON.with(|n| *n), inner::CONST.with(|n| *n)), (1, 2));
        assert_eq!((inner::INHERITED.get(), inner::HOOKED.with(|n| *n)), (4, 5));
        let child = gorun::go(|| (inner::INHERITED.get(), inner::HOOKED.with(|n| *n)));
        assert_eq!(child.join().unwrap(), (4, 10));
    });
}
