//! Destructors, initialisers, hooks, keys and texts of a user's that wait, spawn, store and panic, wherever they run.
//!
//! As `foreign_code.rs`, which has the wakers: the places are rows of `docs/foreign-code.md`.

mod common;

use common::foreign::{ACTS, Act, each, until_yielding};
use common::{counter, others_wait, within};
use gorun::runtime::{Builder, ThreadLocals};
use gorun::{context, sync, time};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Acts when it is dropped, cloned, compared, hashed or shown: as often as it is `armed` for.
#[derive(Debug)]
struct Foreign {
    act: Act,
    armed: Arc<AtomicUsize>,
    acted: Arc<AtomicUsize>,
}

impl Foreign {
    /// Armed for one act.
    fn new(act: Act) -> (Foreign, impl Fn() -> usize) {
        let (acted, count) = counter();
        (Foreign { act, armed: Arc::new(AtomicUsize::new(1)), acted }, count)
    }

    fn act(&self) {
        if self.armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            self.acted.fetch_add(1, Ordering::SeqCst);
            self.act.run();
        }
    }
}

/// Acts in its drop.
struct Dropped(Foreign);

impl Dropped {
    fn new(act: Act) -> (Dropped, impl Fn() -> usize) {
        let (foreign, count) = Foreign::new(act);
        (Dropped(foreign), count)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.act();
    }
}

impl fmt::Debug for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dropped")
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dropped")
    }
}

impl std::error::Error for Dropped {}

fn caught<T>(f: impl FnOnce() -> T) -> Result<T, ()> {
    catch_unwind(AssertUnwindSafe(f)).map_err(drop)
}

/// The panic goes on in whoever runs the code, and it alone.
fn is_the_callers<T: fmt::Debug>(act: Act, result: Result<T, ()>) {
    assert_eq!(result.is_err(), act == Act::Panics, "{result:?}");
}

mod a_drop {
    use super::*;

    #[test]
    fn of_values_that_nobody_received() {
        each(|act| {
            let (value, dropped) = Dropped::new(act);
            let (another, _) = Dropped::new(Act::Stores);
            let (last, last_dropped) = Dropped::new(Act::Stores);
            let (tx, rx) = gorun::channel(3);
            for value in [another, value, last] {
                tx.send(value).unwrap();
            }
            let waits = gorun::go({
                let tx = tx.clone();
                move || tx.send(Dropped::new(Act::Stores).0).is_err()
            });
            others_wait();
            is_the_callers(act, caught(|| drop(rx)));
            assert!(waits.join().unwrap(), "closed before anything was dropped");
            assert_eq!((dropped(), last_dropped()), (1, 1));
            assert!(tx.is_closed());
        });
    }

    #[test]
    fn of_a_result_that_nobody_takes() {
        each(|act| {
            for before in [false, true] {
                let (value, dropped) = Dropped::new(act);
                let handle = gorun::go(move || value);
                if !before {
                    others_wait();
                    is_the_callers(act, caught(|| drop(handle)));
                } else {
                    drop(handle);
                }
                until_yielding(|| dropped() == 1);
                until_yielding(|| gorun::num_goroutines() == 1);
            }
        });
    }

    #[test]
    fn of_a_closure_that_never_ran() {
        each(|act| {
            let (value, dropped) = Dropped::new(act);
            let handle = gorun::go(move || drop(value));
            handle.abort();
            let error = handle.join().unwrap_err();
            assert_eq!((dropped(), error.is_panic(), error.is_aborted()), (1, act == Act::Panics, act != Act::Panics));
        });
    }

    #[test]
    fn of_a_panics_payload() {
        each(|act| {
            let (value, dropped) = Dropped::new(act);
            let handle = gorun::go(move || std::panic::resume_unwind(Box::new(value)));
            is_the_callers(act, caught(|| drop(handle.join().unwrap_err())));
            assert_eq!(dropped(), 1);
            // And of a goroutine that nobody joins.
            let (value, dropped) = Dropped::new(act);
            drop(gorun::go(move || std::panic::resume_unwind(Box::new(value))));
            until_yielding(|| dropped() == 1 && gorun::num_goroutines() == 1);
            // And of a goroutine's at-exit handler.
            let (value, dropped) = Dropped::new(act);
            let handle = gorun::go(|| gorun::at_exit(move || std::panic::resume_unwind(Box::new(value))));
            handle.join().unwrap();
            assert_eq!(dropped(), 1);
        });
    }

    #[test]
    fn of_a_scoped_goroutines_value() {
        each(|act| {
            let (value, dropped) = Dropped::new(act);
            // Nobody has joined it: the scope says that it panicked.
            is_the_callers(act, caught(|| gorun::scope(|s| drop(s.go(move || value)))));
            assert_eq!(dropped(), 1);
            let (value, dropped) = Dropped::new(act);
            let result = caught(|| gorun::scope(|s| drop(s.go(move || std::panic::resume_unwind(Box::new(value))))));
            assert_eq!((dropped(), result.is_err()), (1, true));
        });
    }

    #[test]
    fn of_what_a_pool_keeps() {
        each(|act| {
            let pool = sync::Pool::with_idle(|| Dropped::new(Act::Stores).0, Duration::from_millis(1));
            let (value, dropped) = Dropped::new(act);
            pool.put(value);
            until_yielding(|| dropped() == 1);
            assert!(pool.try_get().is_none());
            (0..256).for_each(|_| pool.put(pool.make_another()));
        });
    }

    trait MakeAnother {
        fn make_another(&self) -> Dropped;
    }
    impl<F: Fn() -> Dropped> MakeAnother for sync::Pool<Dropped, F> {
        fn make_another(&self) -> Dropped {
            self.get()
        }
    }

    #[test]
    fn of_a_contexts_values_and_cause() {
        each(|act| {
            let (value, dropped) = Dropped::new(act);
            let (older, older_dropped) = Dropped::new(Act::Stores);
            let ctx = context::background().with_value(Sync(older)).with_value(Sync(value));
            is_the_callers(act, caught(|| drop(ctx)));
            assert_eq!((dropped(), older_dropped()), (1, 1));
            let (cause, dropped) = Dropped::new(act);
            let (ctx, cancel) = context::background().with_cancel_cause();
            let (child, _keep) = ctx.with_cancel();
            cancel.cancel(cause);
            assert!(child.err().is_some());
            drop((ctx, _keep, cancel));
            is_the_callers(act, caught(|| drop(child)));
            assert_eq!(dropped(), 1);
        });
    }

    struct Sync<T>(T);

    #[test]
    fn of_a_timers_function() {
        each(|act| {
            let (value, dropped) = Dropped::new(act);
            let timer = time::after_func(Duration::from_secs(3600), move || _ = &value);
            assert!(timer.stop());
            is_the_callers(act, caught(|| drop(timer)));
            assert_eq!(dropped(), 1);
            // Of one that rings, on its goroutine.
            let (value, dropped) = Dropped::new(act);
            let value = std::sync::Mutex::new(Some(value));
            let _timer = time::after_func(Duration::from_micros(100), move || drop(value.lock().unwrap().take()));
            until_yielding(|| dropped() == 1 && gorun::num_goroutines() == 1);
            // Of one that its context has no use for any more.
            let (value, dropped) = Dropped::new(act);
            let (ctx, _cancel) = context::background().with_cancel();
            let call = ctx.after_func(move || drop(value));
            is_the_callers(act, caught(|| call.stop()));
            assert_eq!(dropped(), 1);
        });
    }

    /// Nobody is there whose own it would be: the runtime ends all the same, with all that ends with it.
    #[test]
    fn of_functions_that_a_runtime_has_not_called() {
        within(|| {
            for act in ACTS {
                let runtime = Builder::new().workers(2).build().unwrap();
                let made: Vec<_> = (0..8)
                    .map(|_| {
                        let made = runtime.go(move || {
                            let (value, dropped) = Dropped::new(act);
                            drop(time::after_func(Duration::from_secs(3600), move || _ = &value));
                            (time::after(Duration::from_secs(3600)), dropped)
                        });
                        made.unwrap().join().unwrap()
                    })
                    .collect();
                assert!(caught(|| drop(runtime)).is_ok(), "{act:?}");
                for (timer, dropped) in made {
                    assert_eq!(dropped(), 1);
                    assert!(timer.recv().is_err(), "it ended with its runtime");
                }
            }
        });
    }

    #[test]
    fn of_an_error_that_a_group_does_not_need() {
        each(|act| {
            let group = sync::ErrGroup::new();
            let (first, dropped) = Dropped::new(act);
            let (second, second_dropped) = Dropped::new(act);
            group.go(|| Err(first));
            group.go(|| Err(second));
            let error = group.wait().unwrap_err();
            assert_eq!(dropped() + second_dropped(), 1, "the other one, with its goroutine");
            caught(|| drop(error)).ok();
            assert_eq!((dropped(), second_dropped()), (1, 1));
            // Nobody waits.
            let (third, dropped) = Dropped::new(act);
            let group = sync::ErrGroup::new();
            group.go(|| Err(third));
            drop(group);
            until_yielding(|| dropped() == 1 && gorun::num_goroutines() == 1);
        });
    }
}

mod a_key {
    use super::*;

    /// Of which foreign code is called on behalf.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Of {
        Hash,
        Eq,
        Clone,
        Drop,
    }

    struct Key(u8, Of, Arc<Foreign>);

    impl Key {
        fn new(of: Of, act: Act) -> (Key, impl Fn() -> usize) {
            let (foreign, count) = Foreign::new(act);
            (Key(7, of, Arc::new(foreign)), count)
        }

        fn same(&self) -> Key {
            Key(self.0, self.1, self.2.clone())
        }

        fn act(&self, of: Of) {
            if self.1 == of {
                self.2.act();
            }
        }
    }

    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.act(Of::Hash);
            self.0.hash(state);
        }
    }

    impl PartialEq for Key {
        fn eq(&self, other: &Key) -> bool {
            self.act(Of::Eq);
            self.0 == other.0
        }
    }

    impl Eq for Key {}

    impl Clone for Key {
        fn clone(&self) -> Key {
            self.act(Of::Clone);
            self.same()
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            self.act(Of::Drop);
        }
    }

    const ALL: [Of; 4] = [Of::Hash, Of::Eq, Of::Clone, Of::Drop];

    /// Arms the key for its next n calls.
    fn next(key: &Key, n: usize) -> usize {
        key.2.armed.store(n, Ordering::SeqCst);
        n
    }

    #[test]
    fn of_a_single_flight() {
        each(|act| {
            for of in ALL {
                let flights: Arc<sync::SingleFlight<Key, u8>> = Arc::default();
                let (key, acted) = Key::new(of, act);
                let first = caught(|| flights.run(key.same(), || 1));
                is_the_callers(if acted() == 0 { Act::Stores } else { act }, first);
                // Nothing of it is left: neither a call under way nor a lock.
                next(&key, 0);
                assert_eq!(flights.run(key.same(), || 2), (2, false), "{of:?}");
            }
        });
    }

    /// The hash is fine until the call is to be taken out again.
    #[test]
    fn of_a_single_flight_that_panics_at_the_end() {
        within(|| {
            let flights: sync::SingleFlight<Key, u8> = sync::SingleFlight::new();
            let (key, acted) = Key::new(Of::Hash, Act::Panics);
            next(&key, 0);
            let first = caught(|| {
                flights.run(key.same(), || {
                    next(&key, 5);
                    1
                })
            });
            next(&key, 0);
            assert!(first.is_err() && acted() > 1, "it panicked {} times: {first:?}", acted());
            flights.forget(&key.same());
            assert_eq!(flights.run(key.same(), || 2), (2, false));
        });
    }

    #[test]
    fn of_goroutine_local_storage() {
        each(|act| {
            for of in [Of::Hash, Of::Eq, Of::Drop] {
                let handle = gorun::go(move || {
                    let (key, acted) = Key::new(of, act);
                    next(&key, 0);
                    gorun::local::set(key.same(), 1);
                    next(&key, 1);
                    let got = caught(|| gorun::local::get::<_, i32>(&key));
                    // Who stores while keys are compared is told not to.
                    let refused = act == Act::Panics || (of == Of::Eq && act == Act::Stores);
                    assert_eq!(got.is_err(), acted() > 0 && refused);
                    next(&key, 0);
                    assert_eq!(gorun::local::get(&key), Some(1));
                    next(&key, 1);
                    caught(|| gorun::local::del(&key.same())).ok();
                    next(&key, 0);
                    gorun::local::set(key.same(), 2);
                    assert_eq!(gorun::local::take(&key), Some(2));
                });
                handle.join().unwrap();
            }
        });
    }
}

mod a_function {
    use super::*;

    #[test]
    fn that_initialises() {
        each(|act| {
            let (foreign, _) = Foreign::new(act);
            let lock = sync::OnceLock::new();
            let set = || {
                *lock.get_or_init(|| {
                    foreign.act();
                    7
                })
            };
            gorun::scope(|s| {
                let others = [(); 3].map(|()| s.go(|| caught(set)));
                let got: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
                assert!(got.iter().filter(|got| got.is_err()).count() <= 1);
            });
            assert_eq!(set(), 7);

            let (foreign, _) = Foreign::new(act);
            let pool = sync::Pool::new(|| foreign.act());
            is_the_callers(act, caught(|| pool.get()));
            pool.get();

            gorun::goroutine_local! { static KEY: u8 = { ACT.with(|act| act.set(act.get().inspect(|act| act.run()).and(None))); 7 } }
            gorun::goroutine_local! { static ACT: std::cell::Cell<Option<Act>> = const { std::cell::Cell::new(None) } }
            ACT.set(Some(act));
            is_the_callers(act, caught(|| KEY.with(|n| *n)));
            ACT.set(None);
            assert_eq!(KEY.with(|n| *n), 7);
        });
    }

    #[test]
    fn that_a_timer_or_a_context_calls() {
        each(|act| {
            let (foreign, acted) = Foreign::new(act);
            let _timer = time::after_func(Duration::from_micros(100), move || foreign.act());
            until_yielding(|| acted() == 1 && gorun::num_goroutines() == 1);
            let (foreign, acted) = Foreign::new(act);
            let (ctx, cancel) = context::background().with_cancel();
            let (other, others_acted) = Foreign::new(Act::Stores);
            let _call = ctx.after_func(move || foreign.act());
            let _other = ctx.after_func(move || other.act());
            cancel.cancel();
            until_yielding(|| acted() + others_acted() == 2 && gorun::num_goroutines() == 1);
        });
    }

    #[test]
    fn that_inherits() {
        gorun::goroutine_local! {
            #[inherit(|act: &std::cell::Cell<Option<Act>>| {
                if let Some(act) = act.get() { act.run() }
                std::cell::Cell::new(None)
            })]
            static HOOK: std::cell::Cell<Option<Act>> = const { std::cell::Cell::new(None) };
        }
        each(|act| {
            // The spawns of the hook itself inherit nothing more.
            HOOK.set(None);
            if act == Act::Spawns {
                return;
            }
            HOOK.set(Some(act));
            let spawned = caught(|| gorun::go(|| 7));
            assert_eq!(spawned.is_err(), act == Act::Panics);
            if let Ok(handle) = spawned {
                assert_eq!(handle.join().unwrap(), 7);
            }
            HOOK.set(None);
            until_yielding(|| gorun::num_goroutines() == 1);
        });
    }

    #[test]
    fn that_runs_somewhere_else() {
        each(|act| {
            let run = |how: fn(&dyn Fn())| {
                let (foreign, acted) = Foreign::new(act);
                let (act, acted) = (move || foreign.act(), acted);
                let result = caught(|| how(&act));
                assert_eq!(acted(), 1);
                result
            };
            is_the_callers(act, run(|f| gorun::grow(1 << 20, f)));
            let (foreign, acted) = Foreign::new(act);
            is_the_callers(act, caught(|| gorun::blocking(|| foreign.act())));
            let (foreign, timed) = Foreign::new(act);
            is_the_callers(act, caught(|| time::timeout(Duration::from_secs(60), || foreign.act()).unwrap()));
            let (foreign, scoped) = Foreign::new(act);
            is_the_callers(act, caught(|| gorun::scope(|_| foreign.act())));
            assert_eq!((acted(), timed(), scoped()), (1, 1, 1));
            // With a lock of ours held, which is the caller's own: the next one has it.
            let (foreign, _) = Foreign::new(act);
            let (mutex, condvar) = (sync::Mutex::new(false), sync::Condvar::new());
            let waited = caught(|| {
                condvar.wait_while(&mut mutex.lock(), |_| {
                    foreign.act();
                    false
                })
            });
            is_the_callers(act, waited);
            assert!(mutex.try_lock().is_some());
        });
    }

    /// In the middle of a panic. (One that panics there itself ends the process: std does that.)
    #[test]
    fn that_hooks_panics() {
        gorun::goroutine_local! { static HOOKED: std::cell::Cell<Option<Act>> = const { std::cell::Cell::new(None) } }
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match HOOKED.take() {
            Some(act) => act.run(),
            None => before(info),
        }));
        each(|act| {
            if act != Act::Panics {
                let panics = || {
                    gorun::go(move || {
                        HOOKED.set(Some(act));
                        panic!("on purpose");
                    })
                };
                // A pinned neighbour must not panic while the hook waits: std takes the two for one thread's, and aborts.
                let isolated = gorun::current().unwrap().thread_locals() == ThreadLocals::Isolated;
                let several: Vec<_> = (0..if isolated { 3 } else { 1 }).map(|_| panics()).collect();
                for goroutine in several {
                    assert!(goroutine.join().unwrap_err().is_panic());
                }
            }
        });
    }

    /// A user's `AsReceiver` is asked before anything of the select's is anywhere.
    #[test]
    fn that_names_a_selects_arm() {
        struct Inbox(gorun::Receiver<u8>, Foreign);
        impl gorun::select::AsReceiver for Inbox {
            type Value = u8;
            fn as_receiver(&self) -> Option<&gorun::Receiver<u8>> {
                self.1.act();
                Some(&self.0)
            }
        }
        each(|act| {
            let (foreign, _) = Foreign::new(act);
            let (tx, rx) = gorun::channel(1);
            let inbox = Inbox(rx, foreign);
            let never = gorun::never::<u8>();
            tx.send(1).unwrap();
            let selected = || {
                gorun::select! { recv(never) -> n => n, recv(inbox) -> n => n }
            };
            is_the_callers(act, caught(selected));
            if act == Act::Panics {
                assert_eq!(selected(), Ok(1));
            }
        });
    }
}

mod a_text {
    use super::*;

    struct Shown(Foreign);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.act();
            f.write_str("shown")
        }
    }

    impl fmt::Debug for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(self, f)
        }
    }

    /// Its text is the context's cause; the failure is the group's, whatever becomes of the text.
    #[test]
    fn of_a_groups_error() {
        each(|act| {
            let (foreign, acted) = Foreign::new(act);
            let (group, ctx) = sync::ErrGroup::with_context(&context::background());
            group.go(|| Err(Shown(foreign)));
            let waiting = ctx.clone();
            group.go(move || {
                assert!(waiting.done().recv().is_err());
                Ok(())
            });
            let failed = caught(|| group.wait());
            assert_eq!(acted(), 1);
            assert!(failed.unwrap().is_err());
            assert!(ctx.err().is_some());
        });
    }

    #[test]
    fn of_a_value_behind_a_lock() {
        each(|act| {
            let (foreign, acted) = Foreign::new(act);
            let mutex = sync::Mutex::new(Shown(foreign));
            is_the_callers(act, caught(|| format!("{mutex:?}")));
            assert_eq!(acted(), 1);
            assert!(mutex.try_lock().is_some());
        });
    }
}
