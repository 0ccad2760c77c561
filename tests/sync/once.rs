//! `Once`, `OnceLock`, `LazyLock`, `once_func` and `once_value`, by the documentation of Go's `sync.Once` and its kin.

use super::{HOUR, let_others_wait, on_one_worker, until, within};
use gorun::sync::{LazyLock, Once, OnceLock, once_func, once_value};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

// Go, `sync.Once.Do`: "Do calls the function f if and only if Do is being called for the first time for this instance of Once."
// And: "no call to Do returns until the one call to f returns". `Once`: "the return from f "synchronizes before" the return
// from any call of once.Do(f)".
#[test]
fn the_first_does_it_and_all_return_afterwards() {
    within(|| {
        for _ in 0..100 {
            let (once, calls) = (Arc::new(Once::new()), Arc::new(AtomicUsize::new(0)));
            assert!(!once.is_completed());
            let body = || {
                let (once, calls) = (once.clone(), calls.clone());
                move || {
                    once.call_once(|| {
                        calls.fetch_add(1, Ordering::SeqCst);
                        gorun::yield_now();
                        calls.fetch_add(1, Ordering::SeqCst);
                    });
                    assert_eq!(calls.load(Ordering::SeqCst), 2);
                    assert!(once.is_completed());
                }
            };
            let goroutines: Vec<_> = (0..4).map(|_| gorun::go(body())).collect();
            let threads: Vec<_> = (0..2).map(|_| thread::spawn(body())).collect();
            once.wait();
            assert_eq!(calls.load(Ordering::SeqCst), 2);
            goroutines.into_iter().for_each(|g| g.join().unwrap());
            threads.into_iter().for_each(|t| t.join().unwrap());
        }
    });
}

// Go, `sync.Once.Do`: "If f panics, Do considers it to have returned; future calls of Do return without calling f." Here all panic, as with
// Go's OnceFunc and std's Once.
#[test]
fn a_panic_is_for_all_who_come_and_all_who_wait() {
    on_one_worker(|| {
        let once = Arc::new(Once::new());
        let first = gorun::go({
            let once = once.clone();
            move || {
                once.call_once(|| {
                    let_others_wait();
                    resume_unwind(Box::new("on purpose"))
                })
            }
        });
        let_others_wait();
        let waiting = [gorun::go({
            let once = once.clone();
            move || once.call_once(|| ())
        })];
        assert_eq!(*first.join().unwrap_err().into_panic().unwrap().downcast::<&str>().unwrap(), "on purpose");
        for waiter in waiting {
            assert!(waiter.join().unwrap_err().is_panic());
        }
        assert!(!once.is_completed());
        assert!(catch_unwind(AssertUnwindSafe(|| once.call_once(|| ()))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| once.wait())).is_err());
        once.call_once_force(|state| assert!(state.is_poisoned()));
        once.call_once(|| unreachable!());
        once.wait();
    });
}

// Go, `sync.Once.Do`: "if once.Do(f) is called multiple times, only the first call will invoke f, even if f has a different value
// in each invocation. A new instance of Once is required for each function to execute." And: "if f causes Do to be called, it
// will deadlock".
#[test]
fn it_is_the_first_function_only_and_not_in_itself() {
    on_one_worker(|| {
        let (once, another) = (Once::new(), Once::new());
        let said = std::cell::RefCell::new(Vec::new());
        for word in ["first", "second"] {
            once.call_once(|| said.borrow_mut().push(word));
        }
        another.call_once(|| said.borrow_mut().push("another"));
        assert_eq!(*said.borrow(), ["first", "another"]);
        let nested = gorun::go(|| {
            let once = Once::new();
            once.call_once(|| once.call_once(|| unreachable!()));
        });
        let_others_wait();
        assert!(!nested.is_finished());
        nested.abort();
        assert!(nested.join().unwrap_err().is_aborted());
    });
}

#[test]
fn who_is_ended_while_doing_it_leaves_it_to_the_next() {
    on_one_worker(|| {
        for way in 0..2 {
            let (once, cell, done) = (Arc::new(Once::new()), Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
            let begin = |end: fn()| {
                let (once, cell, done) = (once.clone(), cell.clone(), done.clone());
                let goroutine = gorun::go(move || {
                    once.call_once(|| {
                        end();
                        done.fetch_add(1, Ordering::SeqCst);
                    });
                    *cell.get_or_init(|| done.load(Ordering::SeqCst))
                });
                let_others_wait();
                goroutine
            };
            let first = begin(if way == 0 {
                || gorun::time::sleep(HOUR)
            } else {
                || {
                    let_others_wait();
                    let_others_wait();
                    let_others_wait();
                    let_others_wait();
                    gorun::goexit()
                }
            });
            let gone = begin(|| unreachable!());
            let others = [begin(gorun::yield_now), begin(gorun::yield_now)];
            gone.abort();
            first.abort();
            assert!(first.join().is_err());
            assert!(gone.join().unwrap_err().is_aborted());
            for other in others {
                assert_eq!(other.join().unwrap(), 1);
            }
            assert!(once.is_completed());
        }
    });
}

#[test]
fn a_cell_is_set_once() {
    within(|| {
        let cell = Arc::new(OnceLock::<String>::new());
        assert_eq!(cell.get(), None);
        let waiter = gorun::go({
            let cell = cell.clone();
            move || cell.wait().len()
        });
        // A function that fails, by an error or a panic, leaves it empty.
        assert_eq!(cell.get_or_try_init(|| Err(7)), Err(7));
        assert!(catch_unwind(AssertUnwindSafe(|| cell.get_or_init(|| resume_unwind(Box::new(()))))).is_err());
        let setters: Vec<_> = (1..=8)
            .map(|n| {
                let cell = cell.clone();
                gorun::go(move || cell.set("x".repeat(n)).map_err(|back| assert_eq!(back.len(), n)).is_ok())
            })
            .collect();
        let set = setters.into_iter().filter_map(|s| s.join().unwrap().then_some(())).count();
        assert_eq!(set, 1);
        let len = waiter.join().unwrap();
        assert_eq!(cell.get_or_init(|| unreachable!()).len(), len);
        assert_eq!(cell.get_or_try_init(|| Err(())).map(String::len), Ok(len));
        let mut cell = Arc::into_inner(cell).unwrap();
        assert_eq!(cell.clone(), cell);
        cell.get_mut().unwrap().push('y');
        assert_eq!(cell.take().unwrap().len(), len + 1);
        assert_eq!((cell.get(), format!("{cell:?}")), (None, "OnceLock(<uninit>)".into()));
        cell.set("z".into()).unwrap();
        assert_eq!(format!("{cell:?}"), "OnceLock(\"z\")");
        assert_eq!(cell.into_inner().as_deref(), Some("z"));
    });
}

#[test]
fn who_waits_for_a_cell_can_be_aborted() {
    within(|| {
        let cell = Arc::new(OnceLock::<u8>::new());
        let begun = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let (cell, begun) = (cell.clone(), begun.clone());
                gorun::go(move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    *cell.wait()
                })
            })
            .collect();
        until(|| begun.load(Ordering::SeqCst) == 2);
        waiters[0].abort();
        until(|| waiters[0].is_finished());
        cell.set(1).unwrap();
        let ends: Vec<_> = waiters.into_iter().map(|w| w.join().ok()).collect();
        assert_eq!(ends, [None, Some(1)]);
    });
}

#[test]
fn a_lazy_value_is_made_once_or_panics_for_ever() {
    within(|| {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        static LAZY: LazyLock<usize> = LazyLock::new(|| {
            gorun::yield_now();
            MADE.fetch_add(1, Ordering::SeqCst)
        });
        assert_eq!(format!("{LAZY:?}"), "LazyLock(<uninit>)");
        let all: Vec<_> = (0..8).map(|_| gorun::go(|| *LAZY)).collect();
        all.into_iter().for_each(|g| assert_eq!(g.join().unwrap(), 0));
        assert_eq!((MADE.load(Ordering::SeqCst), format!("{LAZY:?}")), (1, "LazyLock(0)".into()));

        let calls = AtomicUsize::new(0);
        let failing = LazyLock::new(|| -> u8 {
            calls.fetch_add(1, Ordering::SeqCst);
            resume_unwind(Box::new("on purpose"))
        });
        for _ in 0..3 {
            assert!(catch_unwind(AssertUnwindSafe(|| *failing)).is_err());
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_lazy_value_survives_the_abort_of_its_first_maker() {
    on_one_worker(|| {
        let turn = Arc::new(AtomicUsize::new(0));
        let lazy = Arc::new(LazyLock::new({
            let turn = turn.clone();
            move || {
                if turn.fetch_add(1, Ordering::SeqCst) == 0 {
                    gorun::time::sleep(HOUR);
                }
                7
            }
        }));
        let look = || {
            let lazy = lazy.clone();
            gorun::go(move || **lazy)
        };
        let first = look();
        let_others_wait();
        let second = look();
        let_others_wait();
        first.abort();
        assert!(first.join().unwrap_err().is_aborted());
        assert_eq!(second.join().unwrap(), 7);
    });
}

// Go, `sync.OnceFunc`: "OnceFunc returns a function that invokes f only once. The returned function may be called concurrently. If f panics, the
// returned function will panic with the same value on every call." (The value is the first's only.) `OnceValue`: "a function that invokes
// f only once and returns the value returned by f".
#[test]
fn once_functions_call_once() {
    within(|| {
        let calls = Arc::new(AtomicUsize::new(0));
        let (counted, other) = (calls.clone(), calls.clone());
        let func = once_func(move || _ = counted.fetch_add(1, Ordering::SeqCst));
        let value = once_value(move || (other.fetch_add(10, Ordering::SeqCst) > 20, vec![1]));
        let all: Vec<_> = (0..4)
            .map(|_| {
                let (func, value) = (func.clone(), value.clone());
                gorun::go(move || {
                    func();
                    value()
                })
            })
            .collect();
        all.into_iter().for_each(|g| assert_eq!(g.join().unwrap(), (false, vec![1])));
        assert_eq!(calls.load(Ordering::SeqCst), 11);
        let failing = once_func(|| resume_unwind(Box::new(())));
        assert!((0..3).all(|_| catch_unwind(AssertUnwindSafe(&failing)).is_err()));
    });
}
