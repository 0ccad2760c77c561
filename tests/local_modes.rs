//! Goroutine-local storage where goroutines have thread-locals of their own, and where they share their worker's: a look
//! finds the value of whoever looks, whatever a goroutine that ran there before has left.

// What `goroutine_local!` expands to counts as gorun's, and must go on doing so.
#![forbid(unsafe_code)]

use gorun::goroutine_local;
use gorun::runtime::{Builder, Runtime, ThreadLocals, isolation};
use std::cell::{Cell, RefCell};

goroutine_local! {
    static N: Cell<u32> = const { Cell::new(0) };
    static LIST: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    #[inherit]
    static INHERITED: Cell<u32> = const { Cell::new(0) };
}

/// `None`, and said, where isolated goroutines can't be had; in `.ci/run` that is a failure. (What the other test programs use
/// for this has unsafe code beside it.)
#[expect(clippy::print_stderr, reason = "for who reads the log of a test")]
fn one_worker(mode: ThreadLocals) -> Option<Runtime> {
    let built = Builder::new().workers(1).thread_locals(mode).build();
    if let Err(error) = &built {
        assert!(mode == ThreadLocals::Isolated && isolation().is_err(), "{error}");
        assert!(std::env::var_os("GORUN_TEST_COMPLETE").is_none(), "{error}");
        eprintln!("SKIPPED: {error}");
    }
    built.ok()
}

/// What each goroutine does between suspensions, with numbers of its own.
fn keep_apart(own: u32) {
    let parents = INHERITED.get();
    for round in 0..20 {
        assert_eq!((N.get(), LIST.with_borrow(Vec::len)), if round == 0 { (0, 0) } else { (own + round - 1, 1) });
        N.set(own + round);
        LIST.with_borrow_mut(|list| *list = vec![own + round]);
        gorun::yield_now();
        assert_eq!(N.replace(own + round), own + round);
        assert_eq!(LIST.with_borrow(Vec::clone), [own + round]);
        let seen = N.scope(Cell::new(own + 50), || {
            gorun::yield_now();
            N.with(|n| {
                gorun::yield_now();
                (n.get(), N.get())
            })
        });
        assert_eq!((seen, N.get()), ((own + 50, own + 50), own + round));
        assert_eq!(INHERITED.get(), parents + round);
        INHERITED.set(parents + round + 1);
        gorun::yield_now();
    }
    gorun::local::reset();
    assert_eq!((N.get(), LIST.take(), INHERITED.get()), (0, vec![], 0));
}

#[test]
fn goroutines_of_both_modes_take_turns_on_one_worker() {
    for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
        let Some(runtime) = one_worker(mode) else { continue };
        runtime.run(|| {
            N.set(1);
            // The second half runs where the first has left off: in blocks, and on stacks, that are used again.
            for half in 0..2 {
                let all: Vec<_> = (1..=8)
                    .map(|i| {
                        INHERITED.set(1000 * i);
                        let child = gorun::Builder::new();
                        let mixed = half == 1 && i % 2 == 0;
                        let child = if mixed { child.thread_locals(ThreadLocals::Pinned) } else { child };
                        child.go(move || keep_apart(100 * i)).unwrap()
                    })
                    .collect();
                all.into_iter().for_each(|child| child.join().unwrap());
            }
            assert_eq!((N.get(), INHERITED.get()), (1, 8000));
        });
    }
}

#[test]
fn looks_that_nest_end_with_the_outermost() {
    for mode in [ThreadLocals::Isolated, ThreadLocals::Pinned] {
        let Some(runtime) = one_worker(mode) else { continue };
        let left = runtime.run(|| {
            LIST.with(|list| {
                list.borrow_mut().push(1);
                N.with(|n| n.set(2));
                assert!(std::panic::catch_unwind(|| N.with(|_| panic!("expected"))).is_err());
                // Neither look above has ended this one.
                assert!(std::panic::catch_unwind(gorun::local::reset).is_err());
                assert_eq!((list.borrow().len(), N.get()), (1, 2));
            });
            gorun::local::reset();
            (LIST.take(), N.get())
        });
        assert_eq!(left, (vec![], 0));
    }
}

/// An initialiser may mention names that the macro's own items could have.
#[test]
fn the_macros_items_hide_nothing_of_the_users() {
    const KEY: u32 = 1;
    static MIRROR: u32 = 2;
    fn key() -> u32 {
        3
    }
    fn mirror() -> u32 {
        4
    }
    goroutine_local! {
        static SUM: u32 = KEY + MIRROR + key() + mirror();
        static ELIDED: &str = "a lifetime";
    }
    assert_eq!((SUM.with(|sum| *sum), ELIDED.with(|text| text.len())), (10, 10));
}
