//! Goroutine-local storage at the edges: theft, abort, reuse, shutdown and stacks, each forced rather than hoped for.
//!
//! What happens in which order is settled by channels and by runtimes of one worker, never by waiting a while.

#![allow(unsafe_code, reason = "a value that is not Send, returned to who never takes it")]

mod common;

use common::stuck::{compute, flag};
use common::{kernel_thread, on_one_worker, one_worker, within};
use gorun::runtime::Builder;
use gorun::{goroutine_local, local};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Runs a closure when dropped.
struct OnDrop(Option<Box<dyn FnOnce()>>);

impl OnDrop {
    fn new(f: impl FnOnce() + 'static) -> OnDrop {
        OnDrop(Some(Box::new(f)))
    }
    fn tell(tx: &Sender<&'static str>, name: &'static str) -> OnDrop {
        let tx = tx.clone();
        OnDrop::new(move || tx.send(name).unwrap())
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

goroutine_local! {
    static N: Cell<u32> = const { Cell::new(0) };
    static DROPS: OnceCell<OnDrop> = const { OnceCell::new() };
    static LIST: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

fn keep(value: OnDrop) {
    DROPS.with(|cell| assert!(cell.set(value).is_ok()));
}

#[test]
fn a_stolen_goroutine_has_what_it_inherited() {
    goroutine_local! {
        #[inherit]
        static REQUEST: RefCell<String> = const { RefCell::new(String::new()) };
    }
    Builder::new().workers(2).build().unwrap().run(|| {
        for n in 0..100 {
            REQUEST.set(format!("request {n}"));
            let (tx, rx) = channel();
            let child = gorun::go(move || tx.send((kernel_thread(), REQUEST.take())).unwrap());
            // Our worker waits with us, so only another one can have run it.
            let (thread, request) = rx.recv().unwrap();
            assert_ne!(thread, kernel_thread());
            assert_eq!(request, format!("request {n}"));
            child.join().unwrap();
        }
    });
}

#[test]
fn what_a_goroutine_inherited_is_dropped_in_it_though_it_never_began() {
    /// Sends the goroutine it is dropped in, and uses that goroutine's storage.
    struct Heir(Option<Sender<(gorun::GoroutineId, u32)>>);
    impl Drop for Heir {
        fn drop(&mut self) {
            if let Some(tx) = self.0.take() {
                local::set("stored in the destructor", 1);
                let grandchild = gorun::go(|| 5).join().unwrap();
                tx.send((local::id(), grandchild)).unwrap();
            }
        }
    }
    goroutine_local! {
        #[inherit(|heir| Heir(heir.0.clone()))]
        static HEIR: Heir = Heir(None);
    }
    on_one_worker(|| {
        let (tx, rx) = channel();
        let child = HEIR.scope(Heir(Some(tx)), || {
            let child = gorun::go(|| unreachable!("the only worker is ours until we wait"));
            child.abort();
            child
        });
        assert_eq!(rx.recv().unwrap().0, local::id(), "the scope's own");
        let id = child.id();
        assert!(child.join().unwrap_err().is_aborted());
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [(id, 5)]);
    });
}

#[test]
fn inherited_values_are_older_than_the_childs_own() {
    struct Named(Option<Sender<&'static str>>, &'static str);
    impl Clone for Named {
        fn clone(&self) -> Named {
            Named(self.0.clone(), self.1)
        }
    }
    impl Drop for Named {
        fn drop(&mut self) {
            if let Some(tx) = &self.0 {
                tx.send(self.1).unwrap();
            }
        }
    }
    goroutine_local! {
        #[inherit]
        static FIRST: Named = Named(None, "");
        #[inherit]
        static SECOND: Named = Named(None, "");
    }
    let (tx, rx) = channel();
    gorun::go(move || {
        // The order is that of the parent's initialisations, not that of the declarations.
        let child = SECOND.scope(Named(Some(tx.clone()), "inherited first"), || {
            FIRST.scope(Named(Some(tx.clone()), "inherited second"), || {
                let tx = tx.clone();
                gorun::go(move || {
                    keep(OnDrop::tell(&tx, "own"));
                    let tx = tx.clone();
                    gorun::at_exit(move || tx.send("handler").unwrap());
                })
            })
        });
        child.join().unwrap();
    })
    .join()
    .unwrap();
    let childs: Vec<_> = rx.try_iter().collect();
    let of_child = |name| childs.iter().rposition(|n| *n == name).unwrap();
    let order = ["handler", "own"].map(of_child);
    assert!(order[0] < order[1]);
    let after_own: Vec<_> = childs[order[1] + 1..].iter().filter(|n| n.starts_with("inherited")).collect();
    assert!(after_own.ends_with(&[&"inherited second", &"inherited first"]), "{childs:?}");
    assert_eq!(childs.len(), 6);
}

#[test]
fn a_block_and_a_stack_that_are_used_again_hold_nothing() {
    on_one_worker(|| {
        let (mut blocks, mut stacks) = (HashSet::new(), HashSet::new());
        for round in 0..100u32 {
            let places = gorun::go(move || {
                assert!(!local::contains(&"k") && LIST.with_borrow(Vec::is_empty));
                assert!(DROPS.with(|d| d.get().is_none()));
                assert_eq!(N.replace(round + 1), 0);
                local::set("k", round);
                LIST.with_borrow_mut(|l| l.push(round));
                gorun::at_exit(|| N.set(7));
                let here = 0u8;
                // A small value lies in the control block.
                (N.with(|n| std::ptr::from_ref(n).addr()), std::ptr::from_ref(&here).addr())
            });
            let (block, stack) = places.join().unwrap();
            blocks.insert(block);
            stacks.insert(stack);
        }
        assert!(blocks.len() < 100, "no control block was used again: the test shows nothing");
        assert!(stacks.len() < 100, "no stack was used again: the test shows nothing");
    });
}

#[test]
fn a_runtime_shut_down_with_thousands_not_begun_drops_what_each_inherited() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    static CLONED: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Clone for Counted {
        fn clone(&self) -> Counted {
            CLONED.fetch_add(1, Ordering::Relaxed);
            ALIVE.fetch_add(1, Ordering::Relaxed);
            Counted
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::Relaxed);
        }
    }
    goroutine_local! {
        #[inherit]
        static COUNTED: Option<Counted> = None;
    }
    one_worker().grace(MINUTE).build().unwrap().run(|| {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        COUNTED.scope(Some(Counted), || {
            for _ in 0..5000 {
                drop(gorun::go(|| gorun::time::sleep(Duration::from_secs(3600))));
            }
        });
        assert_eq!(ALIVE.load(Ordering::Relaxed), 5000);
    });
    assert_eq!((CLONED.load(Ordering::Relaxed), ALIVE.load(Ordering::Relaxed)), (5000, 0));
}

#[test]
fn an_abort_does_not_reach_a_handler_that_waits() {
    let (tx, rx) = channel();
    let (inside, is_inside) = gorun::channel::<()>(0);
    let (release, released) = gorun::channel::<()>(0);
    let goroutine = gorun::go(move || {
        keep(OnDrop::tell(&tx, "storage"));
        let last = tx.clone();
        gorun::at_exit(move || last.send("first in").unwrap());
        gorun::at_exit(move || {
            inside.send(()).unwrap();
            released.recv().unwrap();
            gorun::yield_now();
            tx.send("waited").unwrap();
        });
        8
    });
    is_inside.recv().unwrap();
    goroutine.abort();
    assert!(!goroutine.is_finished(), "the result is published after the exit path");
    release.send(()).unwrap();
    assert_eq!(goroutine.join().unwrap(), 8, "too late");
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["waited", "first in", "storage"]);
}

#[test]
fn an_abort_under_looks_and_scopes_gives_them_back_before_the_handlers() {
    let (tx, rx) = channel();
    let (inside, is_inside) = gorun::channel::<()>(0);
    let (_never, block) = gorun::channel::<()>(0);
    let goroutine = gorun::go(move || {
        gorun::at_exit(move || {
            local::reset();
            tx.send((N.get(), LIST.take())).unwrap();
        });
        N.set(1);
        local::set("looked at", 1);
        N.scope(Cell::new(2), || {
            LIST.with_borrow_mut(|list| {
                list.push(3);
                local::with(&"looked at", |_: &i32| {
                    inside.send(()).unwrap();
                    let _ = block.recv();
                });
            });
        });
    });
    is_inside.recv().unwrap();
    goroutine.abort();
    assert!(goroutine.join().unwrap_err().is_aborted());
    assert_eq!(rx.recv(), Ok((0, vec![])), "reset was allowed: no look was left open");
}

#[test]
fn a_result_nobody_takes_is_dropped_in_its_goroutine_and_what_it_stores_with_it() {
    nobody_takes(|result| result);
}

#[test]
fn so_is_a_panic_that_nobody_takes() {
    nobody_takes::<()>(|payload| std::panic::panic_any(payload));
}

fn nobody_takes<T: Send + 'static>(end: fn(Sendable) -> T) {
    let (tx, rx) = channel();
    one_worker().grace(MINUTE).build().unwrap().run(move || {
        let (dropping, is_dropping) = gorun::channel::<()>(0);
        let goroutine = gorun::go(move || {
            let id = local::id();
            let tell = move |name| {
                let tx = tx.clone();
                // Its own exit path, not that of a goroutine that got the control block afterwards.
                move || tx.send((name, local::id() == id)).unwrap()
            };
            let result = OnDrop::new(move || {
                tell("result")();
                keep(OnDrop::new(tell("storage")));
                gorun::at_exit(tell("handler"));
                drop(dropping);
            });
            end(result.sendable())
        });
        drop(goroutine);
        is_dropping.recv().unwrap_err();
    });
    // The runtime has drained, so all has happened that ever will.
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [("result", true), ("handler", true), ("storage", true)]);
}

#[test]
fn what_the_error_of_a_group_stores_when_nobody_takes_it_is_dropped_too() {
    struct Stores(Sender<&'static str>);
    impl Drop for Stores {
        fn drop(&mut self) {
            self.0.send("error").unwrap();
            keep(OnDrop::tell(&self.0, "storage"));
            let tx = self.0.clone();
            gorun::at_exit(move || tx.send("handler").unwrap());
        }
    }
    let (tx, rx) = channel();
    one_worker().grace(MINUTE).build().unwrap().run(move || {
        // On one worker the goroutine begins when the group's handle is gone, and has ended when it has taken its turn.
        gorun::sync::ErrGroup::new().go(move || Err(Stores(tx)));
        while gorun::num_goroutines() > 1 {
            gorun::yield_now();
        }
    });
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["error", "handler", "storage"]);
}

/// What only its own goroutine drops, whatever the types say.
struct Sendable {
    _inner: OnDrop,
}

// SAFETY: made and dropped by the same goroutine: its handle was dropped before it ended.
unsafe impl Send for Sendable {}

impl OnDrop {
    fn sendable(self) -> Sendable {
        Sendable { _inner: self }
    }
}

#[test]
fn a_main_goroutine_that_panics_cleans_and_its_children_inherit() {
    goroutine_local! {
        #[inherit]
        static FROM_MAIN: Cell<u32> = const { Cell::new(0) };
    }
    let (tx, rx) = channel();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        gorun::run(move || {
            FROM_MAIN.set(4);
            keep(OnDrop::tell(&tx, "storage"));
            gorun::at_exit(move || {
                // The exit path's storage is inherited like any other.
                assert_eq!(gorun::go(|| FROM_MAIN.get()).join().unwrap(), 4);
                tx.send("handler").unwrap();
            });
            std::panic::resume_unwind(Box::new(9u8));
        })
    }));
    assert_eq!(*panic.unwrap_err().downcast::<u8>().unwrap(), 9);
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["handler", "storage"]);
}

#[test]
fn a_plain_threads_handlers_may_wait_for_goroutines() {
    let (tx, rx) = channel();
    std::thread::spawn(move || {
        keep(OnDrop::tell(&tx, "storage"));
        gorun::at_exit(move || {
            let (sender, receiver) = gorun::channel(0);
            let child = gorun::go(move || sender.send("from a goroutine").unwrap());
            tx.send(receiver.recv().unwrap()).unwrap();
            child.join().unwrap();
        });
    })
    .join()
    .unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["from a goroutine", "storage"]);
}

#[test]
fn a_scoped_goroutine_that_was_joined_has_no_storage_left() {
    let finished = AtomicUsize::new(0);
    let (tx, rx) = channel();
    gorun::scope(|s| {
        for n in 0..50 {
            let (tx, finished) = (tx.clone(), &finished);
            let handle = s.go(move || {
                keep(OnDrop::tell(&tx, "storage"));
                gorun::yield_now();
                finished.fetch_add(1, Ordering::Relaxed);
            });
            handle.join().unwrap();
            assert_eq!((rx.try_iter().count(), finished.load(Ordering::Relaxed)), (1, n + 1));
        }
    });
}

#[test]
fn storage_is_the_same_on_a_grown_stack() {
    let (tx, rx) = channel();
    gorun::go(move || {
        N.set(3);
        let id = local::id();
        gorun::grow(1 << 20, || {
            assert_eq!((local::id(), N.replace(4)), (id, 3));
            keep(OnDrop::tell(&tx, "storage"));
            gorun::at_exit(move || tx.send("handler").unwrap());
            gorun::yield_now();
            assert_eq!(N.get(), 4);
        });
        assert!(N.get() == 4 && DROPS.with(|d| d.get().is_some()));
    })
    .join()
    .unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["handler", "storage"]);
}

#[test]
fn handlers_may_capture_what_is_large_or_aligned() {
    #[repr(align(128))]
    struct Wide(u8);
    let (tx, rx) = channel();
    gorun::go(move || {
        let (wide, large, other) = (Wide(1), [2u8; 4000], tx.clone());
        gorun::at_exit(move || {
            let wide = std::hint::black_box(&wide);
            other.send(std::hint::black_box(std::ptr::from_ref(wide).addr()) % 128 + usize::from(wide.0)).unwrap();
        });
        gorun::at_exit(move || tx.send(large.iter().map(|&b| usize::from(b)).sum()).unwrap());
    })
    .join()
    .unwrap();
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [8000, 1]);
}

#[test]
fn what_a_joiners_waker_stores_is_gone_with_the_goroutine() {
    use std::future::Future;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Wake, Waker};

    /// Called on the way out of the goroutine, it stores there.
    struct Stores(Mutex<Option<OnDropSent>>);
    struct OnDropSent(Sender<&'static str>);
    impl Drop for OnDropSent {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    impl Wake for Stores {
        fn wake(self: Arc<Self>) {
            if let Some(value) = self.0.lock().unwrap().take() {
                local::set("left by a waker", value);
            }
        }
    }
    within(|| {
        let (tx, rx) = channel();
        let runtime = one_worker().build().unwrap();
        let (free, stays) = flag();
        let mut handle = Box::pin(runtime.go(move || compute(&stays)).unwrap());
        let waker = Waker::from(Arc::new(Stores(Mutex::new(Some(OnDropSent(tx))))));
        assert!(handle.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        free.store(true, Ordering::SeqCst);
        assert_eq!(rx.recv(), Ok("dropped"));
        assert!(!runtime.go(|| local::contains(&"left by a waker")).unwrap().join().unwrap());
    });
}

/// Does it again whenever it is dropped.
struct Again(fn(Again), Arc<AtomicUsize>);

impl Drop for Again {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        (self.0)(Again(self.0, self.1.clone()));
    }
}

#[test]
fn a_destructor_that_always_stores_its_value_again_comes_to_an_end() {
    goroutine_local! {
        static SELF: Cell<Option<Again>> = const { Cell::new(None) };
        static WHOLE: RefCell<Again> = panic!("set first");
    }
    let stores: [fn(Again); 4] = [
        |again| local::set("again", again),
        |again| gorun::at_exit(move || drop(again)),
        |again| SELF.set(Some(again)),
        |again| WHOLE.set(again),
    ];
    for (n, store) in stores.into_iter().enumerate() {
        let drops = Arc::new(AtomicUsize::new(0));
        let counted = drops.clone();
        gorun::go(move || store(Again(store, counted))).join().unwrap();
        let drops = drops.load(Ordering::SeqCst);
        assert!((1..100_000).contains(&drops), "way {n}: {drops}");
        assert!(!gorun::go(|| local::contains(&"again")).join().unwrap());
    }
}
