//! Goroutine-local storage in goroutines: every way out, inheritance, suspension, reuse, shutdown.

use gorun::{goroutine_local, local};
use std::cell::{Cell, OnceCell};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

/// Sends its name when dropped.
struct Tell(Sender<&'static str>, &'static str);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

/// Runs a closure when dropped.
struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

goroutine_local! {
    static TELL: OnceCell<Tell> = const { OnceCell::new() };
    static ON_DROP: OnceCell<OnDrop> = const { OnceCell::new() };
    static N: Cell<u32> = const { Cell::new(0) };
}

fn store(tx: &Sender<&'static str>) {
    TELL.with(|t| assert!(t.set(Tell(tx.clone(), "typed")).is_ok()));
    local::set("dynamic", Tell(tx.clone(), "dynamic"));
    let tx = tx.clone();
    gorun::at_exit(move || tx.send("handler").unwrap());
}

const CLEANED: [&str; 3] = ["handler", "dynamic", "typed"];

#[test]
fn every_way_out_cleans() {
    let ways: [fn(); 4] = [
        || (),
        || std::panic::resume_unwind(Box::new(())),
        || gorun::goexit(),
        || drop(gorun::go(|| gorun::goexit()).join()),
    ];
    for out in ways {
        let (tx, rx) = channel();
        let _ = gorun::go(move || {
            store(&tx);
            out();
        })
        .join();
        // Joined, so cleaned: nothing is left to wait for.
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), CLEANED);
    }
}

#[test]
fn an_aborted_goroutine_cleans() {
    let (tx, rx) = channel();
    let (parked, is_parked) = gorun::channel::<()>(0);
    let (_never, block) = gorun::channel::<()>(0);
    let goroutine = gorun::go(move || {
        store(&tx);
        parked.send(()).unwrap();
        let _ = block.recv();
        unreachable!();
    });
    is_parked.recv().unwrap();
    goroutine.abort();
    assert!(goroutine.join().unwrap_err().is_aborted());
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), CLEANED);
}

#[test]
fn gotls_the_main_goroutine_has_an_id_handlers_and_storage() {
    let (tx, rx) = channel();
    let id = gorun::run(move || {
        store(&tx);
        local::id()
    });
    assert!(id.get() > 0);
    assert_ne!(id, local::id());
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), CLEANED);
}

#[test]
fn handlers_may_block_yield_spawn_and_join() {
    let (tx, rx) = channel();
    gorun::go(move || {
        N.set(3);
        let last = tx.clone();
        gorun::at_exit(move || {
            gorun::yield_now();
            gorun::time::sleep(std::time::Duration::from_millis(2));
            last.send(N.get()).unwrap();
        });
        gorun::at_exit(move || {
            let child = gorun::go(|| {
                let before = N.replace(9);
                gorun::yield_now();
                before
            });
            tx.send(child.join().unwrap()).unwrap();
            let (a, b) = gorun::channel(0);
            let child = gorun::go(move || a.send(N.get() + 7).unwrap());
            tx.send(b.recv().unwrap()).unwrap();
            child.join().unwrap();
        });
    })
    .join()
    .unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 7, 3]);
}

#[test]
fn destructors_may_block_spawn_and_leave_by_goexit() {
    let (tx, rx) = channel();
    gorun::go(move || {
        TELL.with(|t| assert!(t.set(Tell(tx.clone(), "older")).is_ok()));
        ON_DROP.with(|d| {
            let f = move || {
                gorun::yield_now();
                tx.send(gorun::go(|| "spawned").join().unwrap()).unwrap();
                gorun::goexit();
            };
            assert!(d.set(OnDrop(Some(Box::new(f)))).is_ok());
        });
    })
    .join()
    .unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["spawned", "older"]);
}

#[test]
fn a_look_may_last_over_a_suspension() {
    let goroutines: Vec<_> = (0..64)
        .map(|n| {
            gorun::go(move || {
                N.set(n);
                local::set("n", n);
                N.with(|mine| {
                    local::with(&"n", |dynamic: &u32| {
                        for _ in 0..20 {
                            gorun::yield_now();
                            assert_eq!((mine.get(), *dynamic, N.get()), (n, n, n));
                        }
                    })
                    .unwrap();
                });
                N.scope(Cell::new(n + 1), || {
                    gorun::yield_now();
                    assert_eq!(N.get(), n + 1);
                });
                assert_eq!(N.get(), n);
            })
        })
        .collect();
    goroutines.into_iter().for_each(|g| g.join().unwrap());
}

#[test]
fn initialisers_may_suspend() {
    goroutine_local! { static SLOW: u64 = { gorun::yield_now(); gorun::id().get() } }
    let goroutines: Vec<_> = (0..32).map(|_| gorun::go(|| SLOW.with(|id| *id == gorun::id().get()))).collect();
    assert!(goroutines.into_iter().all(|g| g.join().unwrap()));
}

/// How often a hook cloned, and how many of the clones are alive.
static CLONES: AtomicU32 = AtomicU32::new(0);
static ALIVE: AtomicU32 = AtomicU32::new(0);

struct Counted(u32);
impl Clone for Counted {
    fn clone(&self) -> Counted {
        CLONES.fetch_add(1, Ordering::Relaxed);
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Counted(self.0 + 1)
    }
}
impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn inherited_values_are_dropped_once_on_every_way_out() {
    goroutine_local! {
        #[inherit]
        static COUNTED: Option<Counted> = None;
        #[inherit(|_| panic!("expected: a hook that panics"))]
        static EXPLOSIVE: u8 = 0;
    }
    // One worker, which is ours until we wait.
    gorun::runtime::Builder::new().workers(1).build().unwrap().run(|| {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        COUNTED.scope(Some(Counted(1)), || {
            let here = || COUNTED.with(|c| c.as_ref().unwrap().0);
            // Grandchildren inherit from children.
            let grandchild = move || gorun::go(here).join().unwrap();
            assert_eq!((here(), gorun::go(here).join().unwrap(), gorun::go(grandchild).join().unwrap()), (1, 2, 3));
            for _ in 0..50 {
                let never = gorun::go(|| unreachable!("aborted before it began"));
                never.abort();
                assert!(never.join().unwrap_err().is_aborted());
            }
            assert_eq!(CLONES.load(Ordering::Relaxed), 53);
            // A hook that panics: what was inherited before it is dropped, and the spawner panics.
            EXPLOSIVE.scope(1, || {
                for _ in 0..10 {
                    let spawn = std::panic::catch_unwind(|| drop(gorun::go(|| unreachable!("not spawned"))));
                    let text = *spawn.unwrap_err().downcast::<&str>().unwrap();
                    assert_eq!(text, "expected: a hook that panics");
                }
            });
            assert_eq!(CLONES.load(Ordering::Relaxed), 63);
            assert_eq!(ALIVE.load(Ordering::Relaxed), 1);
        });
        assert!(gorun::go(|| COUNTED.with(Option::is_none)).join().unwrap());
    });
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
}

#[test]
fn a_hook_may_use_the_spawners_storage_but_not_reset_it() {
    goroutine_local! {
        #[inherit(|n: &u32| { local::set("seen", *n); local::set(*n, N.get()); assert!(local::del(n)); n + 1 })]
        static STORES: u32 = 10;
        #[inherit(|_| { local::reset(); 1 })]
        static RESETS: u32 = 0;
    }
    gorun::go(|| {
        STORES.with(|_| ());
        assert_eq!(gorun::go(|| STORES.with(|n| (*n, local::contains(&"seen")))).join().unwrap(), (11, false));
        assert_eq!(local::get::<_, u32>(&"seen"), Some(10));
        RESETS.with(|_| ());
        assert!(std::panic::catch_unwind(|| drop(gorun::go(|| ()))).is_err());
        assert_eq!(STORES.with(|n| *n), 10);
    })
    .join()
    .unwrap();
}

#[test]
fn a_runtime_shut_down_with_thousands_parked_cleans_each() {
    const PARKED: usize = 3000;
    static CLEANED: AtomicUsize = AtomicUsize::new(0);
    struct Count;
    impl Drop for Count {
        fn drop(&mut self) {
            CLEANED.fetch_add(1, Ordering::Relaxed);
        }
    }
    goroutine_local! { static COUNT: Count = const { Count } }
    let runtime = gorun::runtime::Builder::new().workers(2).build().unwrap();
    let group = gorun::sync::WaitGroup::new();
    let (_never, block) = gorun::channel::<()>(0);
    for _ in 0..PARKED {
        group.add(1);
        let (group, block) = (group.clone(), block.clone());
        drop(runtime.go(move || {
            COUNT.with(|_| ());
            local::set("count", Count);
            gorun::at_exit(|| drop(Count));
            group.done();
            let _ = block.recv();
        }));
    }
    group.wait();
    runtime.shutdown(std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(CLEANED.load(Ordering::Relaxed), 3 * PARKED);
}

#[test]
fn a_destructor_that_always_stores_again_comes_to_an_end() {
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    static REFUSED: AtomicU32 = AtomicU32::new(0);
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            if N.try_with(|_| ()).is_ok() {
                return local::set("again", Again);
            }
            assert!(std::panic::catch_unwind(|| local::set("again", ())).is_err());
            assert!(std::panic::catch_unwind(|| gorun::at_exit(|| ())).is_err());
            REFUSED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let before = local::exit_overruns();
    gorun::go(|| local::set("again", Again)).join().unwrap();
    assert_eq!(local::exit_overruns() - before, 1);
    // One in each of the eight rounds, and one in the last pass, which could not store.
    assert_eq!((DROPPED.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed)), (9, 1));
    // The record is in order again.
    gorun::go(|| assert!(!local::contains(&"again") && N.get() == 0)).join().unwrap();
}
