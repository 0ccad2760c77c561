//! Goroutines from the outside: spawn, join, await, abort, goexit, panics, names, ids, scopes, stacks.

mod common;

use common::{Counted, counter, on_one_worker, until};
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_result_of_any_size_comes_back() {
    assert_eq!(gorun::go(|| 7u8).join().unwrap(), 7);
    assert_eq!(gorun::go(|| [3u64; 100]).join().unwrap(), [3; 100]);
    let big = [5u64; 100];
    assert_eq!(gorun::go(move || big.iter().sum::<u64>()).join().unwrap(), 500);
    gorun::go(|| ()).join().unwrap();
    #[repr(align(64))]
    struct Aligned(u8);
    let at = gorun::go(|| Aligned(9)).join().unwrap();
    assert_eq!((at.0, &raw const at as usize % 64), (9, 0));
}

#[test]
fn a_dropped_handle_lets_the_goroutine_run_and_drop_its_result() {
    let (count, dropped) = counter();
    let (said, says) = mpsc::channel();
    drop(gorun::go(move || {
        said.send(()).unwrap();
        Counted(count)
    }));
    says.recv().unwrap();
    // On the goroutine's way out.
    until(|| dropped() == 1);
}

#[test]
fn the_closure_is_dropped_once_in_every_way_out() {
    for way in 0..4 {
        let (count, dropped) = counter();
        let guard = Counted(count);
        let handle = gorun::go(move || {
            let _guard = guard;
            match way {
                0 => {}
                1 => gorun::goexit(),
                2 => std::panic::resume_unwind(Box::new("on purpose")),
                _ => gorun::time::sleep(HOUR),
            }
        });
        if way == 3 {
            handle.abort();
        }
        let ended = handle.join();
        assert_eq!(dropped(), 1);
        match way {
            0 => ended.unwrap(),
            1 => assert!(ended.unwrap_err().is_goexit()),
            2 => assert_eq!(*ended.unwrap_err().into_panic().unwrap().downcast::<&str>().unwrap(), "on purpose"),
            _ => assert!(ended.unwrap_err().is_aborted()),
        }
    }
}

#[test]
fn an_abort_before_the_first_run_never_runs_the_closure() {
    let (count, dropped) = counter();
    let ran = Arc::new(AtomicBool::new(false));
    let outcome = on_one_worker(|| {
        let guard = Counted(count);
        let ran = ran.clone();
        // The worker runs us: the child can't have begun.
        let child = gorun::go(move || {
            let _guard = &guard;
            ran.store(true, Ordering::SeqCst);
        });
        child.abort();
        child.join()
    });
    assert!(outcome.unwrap_err().is_aborted());
    assert!(!ran.load(Ordering::SeqCst));
    assert_eq!(dropped(), 1);
}

#[test]
fn a_join_error_says_who_and_how() {
    let handle = gorun::Builder::new().name("carol").go(|| std::panic::resume_unwind(Box::new("boom"))).unwrap();
    let id = handle.id();
    let error = gorun::go(move || handle.join()).join().unwrap().map(|(): ()| ()).unwrap_err();
    assert_eq!(error.to_string(), format!("goroutine {id} \"carol\" panicked: boom"));
    assert_eq!(error.id(), id);
}

#[test]
fn a_handle_is_a_future() {
    let value = futures_lite::future::block_on(gorun::go(|| {
        gorun::yield_now();
        11
    }));
    assert_eq!(value.unwrap(), 11);

    // Polled with a waker first, joined by blocking afterwards; and dropped while registered.
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let (go_on, goes_on) = gorun::channel::<()>(0);
    let handle = gorun::go(move || goes_on.recv().is_err());
    {
        let mut handle = pin!(handle);
        assert!(matches!(handle.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending));
        drop(go_on);
        until(|| flag.0.load(Ordering::SeqCst));
        assert!(matches!(handle.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(true))));
    }
    let abandoned = gorun::go(|| gorun::time::sleep(HOUR));
    let abort = {
        let mut pinned = Box::pin(abandoned);
        assert!(pinned.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        pinned.abort();
        drop(pinned);
        Arc::strong_count(&flag)
    };
    drop(waker);
    assert_eq!(abort, 2, "the registered waker went with the handle");
}

#[test]
fn a_waker_that_panics_as_it_is_let_go_gives_nothing_up_twice() {
    /// Lets its goroutine end, and another one have its control block.
    struct Bomb(Mutex<Option<gorun::Sender<()>>>, Mutex<mpsc::Sender<gorun::JoinHandle<usize>>>);
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            drop(self.0.lock().unwrap().take());
            alone();
            self.1.lock().unwrap().send(gorun::go(|| 42)).unwrap();
            panic!("on purpose");
        }
    }
    fn alone() {
        while gorun::num_goroutines() > 1 {
            gorun::yield_now();
        }
    }
    // No other worker: a panic's report takes so long that one would be brought in.
    let one = gorun::runtime::Builder::new().workers(1).spare_workers(0).build().unwrap();
    one.run(|| {
        let (go_on, goes_on) = gorun::channel::<()>(0);
        let (tell, told) = mpsc::channel();
        let mut handle = Box::pin(gorun::go(move || goes_on.recv().is_err()));
        let waker = Waker::from(Arc::new(Bomb(Mutex::new(Some(go_on)), Mutex::new(tell))));
        assert!(handle.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        assert!(catch_unwind(AssertUnwindSafe(|| drop(handle))).is_ok(), "told by the hook, and over");
        let second = told.recv().unwrap();
        alone();
        let third = gorun::go(|| 7usize);
        alone();
        assert_eq!((second.join().unwrap(), third.join().unwrap()), (42, 7));
    });
}

#[test]
fn ids_are_unique_and_names_are_kept() {
    let mut ids: Vec<u64> = (0..1000).map(|_| gorun::go(|| gorun::id().get())).map(|h| h.join().unwrap()).collect();
    ids.push(gorun::id().get());
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1001);
    assert!(ids[0] > 0);
    let line = line!() + 1;
    let handle = gorun::Builder::new().name("alice").go(gorun::current).unwrap();
    let who = handle.join().unwrap().unwrap();
    assert_eq!((who.name(), who.spawned_at().line()), (Some("alice"), line));
    assert!(who.spawned_at().file().ends_with("tests/goroutine.rs"));
}

#[test]
fn a_scope_lends_its_stack_and_waits() {
    let mut numbers = vec![0u32; 1000];
    let seen = AtomicUsize::new(0);
    gorun::scope(|s| {
        for chunk in numbers.chunks_mut(100) {
            s.go(|| {
                gorun::yield_now();
                chunk.iter_mut().for_each(|n| *n += 1);
                seen.fetch_add(chunk.len(), Ordering::SeqCst);
            });
        }
    });
    assert_eq!(seen.into_inner(), 1000);
    assert!(numbers.iter().all(|n| *n == 1));
}

#[test]
fn a_scope_waits_although_its_owner_is_aborted() {
    let (begun, begins) = mpsc::channel();
    let (open, opens) = gorun::channel::<()>(0);
    let owner = gorun::go(move || {
        let local = Cell::new(1);
        let flag = AtomicBool::new(false);
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            gorun::scope(|s| {
                s.go(|| {
                    begun.send(()).unwrap();
                    assert!(opens.recv().is_err());
                    flag.store(true, Ordering::SeqCst);
                });
            });
        }));
        local.set(2);
        assert!(gorun::is_abort(&*waited.unwrap_err()), "the end of a scope is a cancellation point");
        assert!(flag.load(Ordering::SeqCst), "the child used our stack to its end");
        gorun::yield_now();
    });
    begins.recv().unwrap();
    owner.abort();
    drop(open);
    assert!(owner.join().unwrap_err().is_aborted());
}

#[test]
fn a_scope_panics_for_a_child_that_nobody_joined() {
    let unjoined = std::panic::catch_unwind(|| gorun::scope(|s| drop(s.go(|| std::panic::resume_unwind(Box::new(1))))));
    assert!(unjoined.is_err());
    let joined = gorun::scope(|s| s.go(|| -> u32 { std::panic::resume_unwind(Box::new(1)) }).join().is_err());
    assert!(joined);
}

#[test]
fn a_deep_recursion_grows() {
    fn depth(n: u32) -> u32 {
        let frame = std::hint::black_box([n; 64]);
        if n == 0 { 0 } else { frame[0] - n + 1 + depth(n - 1) }
    }
    let deep = gorun::go(|| {
        gorun::grow(256 << 20, || {
            gorun::yield_now();
            depth(200_000)
        })
    });
    assert_eq!(deep.join().unwrap(), 200_000);
    assert_eq!(gorun::grow(64 << 20, || depth(50_000)), 50_000, "on a plain thread too");
    let caught = gorun::go(|| gorun::grow(1 << 20, || -> () { std::panic::resume_unwind(Box::new("deep")) }));
    assert!(caught.join().unwrap_err().is_panic());
    assert!(gorun::try_grow(usize::MAX, || ()).is_err());
}

#[test]
fn a_stack_of_the_asked_size_can_be_used() {
    let used = gorun::Builder::new().stack_size(8 << 20).go(|| {
        // Without optimisation there are two of it.
        let big = std::hint::black_box([1u8; 3 << 20]);
        big.iter().map(|b| usize::from(*b)).sum::<usize>()
    });
    assert_eq!(used.unwrap().join().unwrap(), 3 << 20);
    let error = gorun::Builder::new().stack_size(usize::MAX).go(|| ()).unwrap_err();
    assert!(matches!(error, gorun::SpawnError::Stack(_)), "{error}");
}

#[test]
fn an_aborts_and_a_goexits_payload_can_be_told_from_a_panics() {
    type Kinds = (bool, bool, bool);
    // By a reference to what is in the box, and by one to the box, which coerces as well.
    let kinds = |payload: &Box<dyn std::any::Any + Send>| -> [Kinds; 2] {
        let (inside, boxed): (&(dyn std::any::Any + Send), &(dyn std::any::Any + Send)) = (&**payload, payload);
        [inside, boxed].map(|it| (gorun::is_panic(it), gorun::is_abort(it), gorun::is_goexit(it)))
    };
    let panicked = catch_unwind(|| panic!("a {}", "panic")).unwrap_err();
    assert_eq!(kinds(&panicked), [(true, false, false); 2]);
    let (tx, rx) = mpsc::channel();
    let other = tx.clone();
    let ended = gorun::go(move || -> () {
        let payload = catch_unwind(|| gorun::goexit()).unwrap_err();
        tx.send(kinds(&payload)).unwrap();
        std::panic::resume_unwind(payload)
    });
    assert!(ended.join().unwrap_err().is_goexit());
    assert_eq!(rx.recv().unwrap(), [(false, false, true); 2]);
    let (begun, begins) = mpsc::channel();
    let stuck = gorun::go(move || -> () {
        begun.send(()).unwrap();
        let payload = catch_unwind(|| gorun::time::sleep(Duration::from_secs(3600))).unwrap_err();
        other.send(kinds(&payload)).unwrap();
        std::panic::resume_unwind(payload)
    });
    begins.recv().unwrap();
    stuck.abort();
    assert!(stuck.join().unwrap_err().is_aborted());
    assert_eq!(rx.recv().unwrap(), [(false, true, false); 2]);
}

#[test]
fn a_name_is_in_what_is_printed_of_handles() {
    let named = gorun::Builder::new().name("digest").go(|| -> () { panic!("no") }).unwrap();
    assert!(format!("{named:?}").contains("digest"), "{named:?}");
    let error = named.join().unwrap_err();
    assert!(format!("{error:?} {error}").matches("digest").count() == 2, "{error:?}");
    gorun::Builder::new()
        .name("current")
        .go(|| assert!(format!("{:?}", gorun::current()).contains("\"current\"")))
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn a_goroutine_may_inherit_nothing() {
    gorun::goroutine_local! {
        #[inherit]
        static REQUEST: Cell<u32> = const { Cell::new(0) };
        #[inherit(|_: &Cell<u32>| unreachable!("no hook is called"))]
        static HOOKED: Cell<u32> = const { Cell::new(0) };
    }
    struct User;
    let seen = || {
        let aloof = || gorun::Builder::new().inherit(false);
        let look = || (REQUEST.get(), gorun::context::current().value::<User>().is_some());
        REQUEST.set(17);
        gorun::context::background().with_value(User).scope(|| {
            assert_eq!(gorun::go(look).join().unwrap(), (17, true));
            assert_eq!(gorun::Builder::default().go(look).unwrap().join().unwrap(), (17, true));
            assert_eq!(gorun::Builder::new().inherit(true).go(look).unwrap().join().unwrap(), (17, true));
            HOOKED.set(1);
            let child = aloof().go(move || (look(), HOOKED.get())).unwrap().join().unwrap();
            assert_eq!(child, ((0, false), 0));
            // And what it starts has nothing to inherit.
            assert_eq!(aloof().go(move || gorun::go(look).join().unwrap()).unwrap().join().unwrap(), (0, false));
        });
        let _removed = HOOKED.remove();
    };
    seen();
    gorun::go(seen).join().unwrap();
}
