//! Scopes and groups, and the exit path: when their wait is over, nothing of their goroutines is left to happen.
//!
//! On runtimes of one worker, where what an exit path leaves undone when it yields stays undone if nobody waits for it.

mod common;

use common::one_worker;
use gorun::{goroutine_local, local};
use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Gives the worker away again and again, then counts.
fn late(count: &AtomicUsize) {
    (0..10).for_each(|_| gorun::yield_now());
    count.fetch_add(1, Ordering::SeqCst);
}

/// Counts when dropped, late.
struct Late(Arc<AtomicUsize>);

impl Drop for Late {
    fn drop(&mut self) {
        late(&self.0);
    }
}

goroutine_local! {
    static TYPED: OnceCell<Late> = const { OnceCell::new() };
}

fn on_one_worker<T: Send>(f: impl FnOnce(Arc<AtomicUsize>) -> T + Send) -> T {
    let count = Arc::new(AtomicUsize::new(0));
    one_worker().build().unwrap().run(|| f(count))
}

#[test]
fn a_scope_waits_for_handlers_and_storage() {
    on_one_worker(|count| {
        gorun::scope(|s| {
            let count = &count;
            for _ in 0..5 {
                s.go(move || {
                    TYPED.with(|t| assert!(t.set(Late(count.clone())).is_ok()));
                    local::set("dynamic", Late(count.clone()));
                    let count = count.clone();
                    gorun::at_exit(move || late(&count));
                });
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 15);
    });
}

#[test]
fn a_group_waits_for_handlers_and_storage() {
    on_one_worker(|count| {
        let group = gorun::sync::WaitGroup::new();
        let ways: [fn(); 3] = [|| (), || gorun::goexit(), || std::panic::resume_unwind(Box::new(()))];
        for out in ways {
            let count = count.clone();
            drop(group.go(move || {
                local::set("dynamic", Late(count.clone()));
                gorun::at_exit(move || late(&count));
                out();
            }));
        }
        group.go(|| unreachable!("the only worker is ours until we wait")).abort();
        group.wait();
        assert_eq!(count.load(Ordering::SeqCst), 6);
    });
}

#[test]
fn a_scope_waits_for_what_one_that_never_began_inherited() {
    #[derive(Clone)]
    struct Heirloom(#[expect(dead_code, reason = "held for its drop")] Option<Arc<Late>>);
    goroutine_local! {
        #[inherit]
        static HEIRLOOM: Heirloom = const { Heirloom(None) };
    }
    on_one_worker(|count| {
        gorun::scope(|s| {
            // The child's clone is the last one.
            HEIRLOOM.scope(Heirloom(Some(Arc::new(Late(count.clone())))), || {
                let child = s.go(|| unreachable!("the only worker is ours until we wait"));
                child.abort();
            });
            assert_eq!(count.load(Ordering::SeqCst), 0);
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_scope_waits_for_exit_paths_when_its_runtime_is_shut_down() {
    let count = Arc::new(AtomicUsize::new(0));
    let (begun, begins) = std::sync::mpsc::channel();
    let (_never, nothing) = gorun::channel::<()>(0);
    let runtime = one_worker().build().unwrap();
    let at_the_end = Arc::new(AtomicUsize::new(usize::MAX));
    let (inside, seen) = (count.clone(), at_the_end.clone());
    let outer = runtime.go(move || {
        /// Looks at the count when the scope is left.
        struct Look<'a>(&'a AtomicUsize, &'a AtomicUsize);
        impl Drop for Look<'_> {
            fn drop(&mut self) {
                self.1.store(self.0.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        }
        let _look = Look(&inside, &seen);
        gorun::scope(|s| {
            for _ in 0..3 {
                s.go(|| {
                    let count = inside.clone();
                    gorun::at_exit(move || late(&count));
                    begun.send(()).unwrap();
                    let _ = nothing.recv();
                });
            }
        });
    });
    (0..3).for_each(|_| begins.recv().unwrap());
    runtime.shutdown(std::time::Duration::from_secs(3600)).unwrap();
    // The abort reached it in the scope, which does not end by it, and is left by it.
    assert!(outer.unwrap().join().unwrap_err().is_aborted());
    assert_eq!((count.load(Ordering::SeqCst), at_the_end.load(Ordering::SeqCst)), (3, 3));
}

#[test]
fn a_scope_waits_for_the_drop_of_a_panic_nobody_takes() {
    on_one_worker(|count| {
        let payload = Late(count.clone());
        let scope = catch_unwind(AssertUnwindSafe(|| {
            gorun::scope(|s| {
                drop(s.go(move || std::panic::resume_unwind(Box::new(payload))));
            });
        }));
        assert_eq!(*scope.unwrap_err().downcast::<&str>().unwrap(), "a scoped goroutine panicked");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_spawn_that_fails_leaves_the_scope_nothing_to_wait_for() {
    goroutine_local! {
        #[inherit(|_| std::panic::resume_unwind(Box::new("a hook that panics")))]
        static EXPLOSIVE: u8 = 0;
    }
    on_one_worker(|count| {
        gorun::scope(|s| {
            let captured = Late(count.clone());
            let refused = s.spawn(gorun::Builder::new().stack_size(usize::MAX), move || drop(captured));
            assert!(matches!(refused, Err(gorun::SpawnError::Stack(_))));
            assert_eq!(count.load(Ordering::SeqCst), 1, "the closure is gone");
            EXPLOSIVE.scope(1, || {
                let captured = Late(count.clone());
                let spawn = catch_unwind(AssertUnwindSafe(|| drop(s.go(move || drop(captured)))));
                assert_eq!(*spawn.unwrap_err().downcast::<&str>().unwrap(), "a hook that panics");
            });
            assert_eq!(count.load(Ordering::SeqCst), 2, "the closure is gone");
            // Those did not count, and this one does.
            s.go(|| late(&count));
        });
        assert_eq!(count.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn a_joined_panic_is_its_joiners_and_not_the_scopes() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("in drop"));
        }
    }
    on_one_worker(|_| {
        gorun::scope(|s| {
            let named = gorun::Builder::new().name("panics");
            let child = s.spawn(named, || -> u32 { std::panic::resume_unwind(Box::new(7u8)) }).unwrap();
            let id = child.id().unwrap();
            let error = child.join().unwrap_err();
            assert!(error.is_panic() && error.id() == id && error.to_string().contains("\"panics\""), "{error}");
            assert_eq!(*error.into_panic().unwrap().downcast::<u8>().unwrap(), 7);
            // A closure that never runs, and panics when it is dropped.
            let captured = PanicsInDrop;
            let child = s.go(move || {
                let _captured = &captured;
            });
            child.abort();
            assert!(child.join().unwrap_err().is_panic());
        });
    });
}
