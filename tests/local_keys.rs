//! Keys, typed and dynamic, where they are the same for a goroutine and for a plain thread: each test runs in both.

mod local_support;

use gorun::goroutine_local;
use gorun::local;
use local_support::*;
use std::cell::{Cell, OnceCell, RefCell};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

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
