//! `ErrGroup`: what Go's `golang.org/x/sync/errgroup` documents, panics, aborts.

use gorun::context::{ContextError, background};
use gorun::runtime::Builder;
use gorun::sync::ErrGroup;
use gorun::time::{Duration, sleep};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const LONG: Duration = Duration::from_secs(3600);

fn on_one_worker<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    Builder::new().workers(1).build().unwrap().run(body)
}

/// Go, `errgroup.Group.Wait`: "blocks until all function calls from the Go method have returned, then returns the first non-nil error
/// (if any) from them."
#[test]
fn wait_waits_for_all_and_gives_the_first_error() {
    let check = || {
        let group = ErrGroup::new();
        let ended = Arc::new(AtomicUsize::new(0));
        let (closer, closed) = gorun::channel::<()>(0);
        for n in 0..8 {
            let (ended, closer, closed) = (ended.clone(), closer.clone(), closed.clone());
            group.go(move || {
                match n {
                    // On one worker the one that is woken goes on when this one has ended.
                    3 => closer.close(),
                    5 => assert!(closed.recv().is_err()),
                    _ => gorun::yield_now(),
                }
                ended.fetch_add(1, Ordering::Relaxed);
                match n {
                    3 => Err("first"),
                    5 => Err("second"),
                    _ => Ok(()),
                }
            });
        }
        let result = group.wait();
        assert_eq!(ended.load(Ordering::Relaxed), 8);
        assert_eq!(result, Err("first"));
        assert_eq!(group.wait(), Ok(()), "given once");
    };
    on_one_worker(check);
    // From a plain thread.
    let group = ErrGroup::new();
    group.go(|| Err("only"));
    assert_eq!(group.wait(), Err("only"));
}

/// "A zero Group is valid, has no limit on the number of active goroutines, and does not cancel on error."
#[test]
fn an_empty_group_has_nothing_to_wait_for() {
    assert_eq!(ErrGroup::<String>::default().wait(), Ok(()));
}

/// Go, `errgroup.WithContext`: "The derived Context is canceled the first time a function passed to Go returns a non-nil error".
#[test]
fn the_first_error_cancels_the_context() {
    let (group, ctx) = ErrGroup::with_context(&background());
    let stopped = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let (ctx, stopped) = (ctx.clone(), stopped.clone());
        group.go(move || {
            ctx.done().recv().unwrap_err();
            stopped.fetch_add(1, Ordering::Relaxed);
            Err("canceled")
        });
    }
    group.go(|| Err("broken"));
    assert_eq!(group.wait(), Err("broken"));
    assert_eq!(stopped.load(Ordering::Relaxed), 4);
    assert_eq!(ctx.err(), Some(ContextError::Canceled));
    assert_eq!(ctx.cause().unwrap().to_string(), "broken");
}

/// Go, `errgroup.WithContext`: "or the first time Wait returns, whichever occurs first".
#[test]
fn wait_cancels_the_context() {
    let (group, ctx) = ErrGroup::<&str>::with_context(&background());
    group.go(|| Ok(()));
    assert_eq!((ctx.err(), group.wait()), (None, Ok(())));
    assert_eq!(ctx.cause().unwrap().to_string(), "context canceled");
}

#[test]
fn the_groups_context_is_derived() {
    let (parent, cancel) = background().with_cancel();
    let (group, ctx) = ErrGroup::<&str>::with_context(&parent);
    group.go(move || ctx.done().recv().map_or(Ok(()), |never| match never {}));
    cancel.cancel();
    assert_eq!(group.wait(), Ok(()));
}

/// Go, `errgroup.Group.Go`: "It blocks until the new goroutine can be added without the number of goroutines in the group exceeding the
/// configured limit."
#[test]
fn go_waits_for_room() {
    for limit in [1, 3] {
        let (active, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let group = ErrGroup::<()>::new();
        group.set_limit(limit);
        gorun::run(|| {
            // The group's goroutines are those of the runtime of who starts them.
            for _ in 0..50 {
                let (active, most) = (active.clone(), most.clone());
                group.go(move || {
                    most.fetch_max(active.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    gorun::yield_now();
                    active.fetch_sub(1, Ordering::Relaxed);
                    Ok(())
                });
            }
            group.wait().unwrap();
        });
        let most = most.load(Ordering::Relaxed);
        assert!((1..=limit).contains(&most), "{most} of {limit}");
    }
}

/// Go, `errgroup.Group.TryGo`: "calls the given function in a new goroutine only if the number of active goroutines in the group is
/// currently below the configured limit. The return value reports whether the goroutine was started."
#[test]
fn try_go_wants_room_now() {
    let group = ErrGroup::<()>::new();
    group.set_limit(1);
    let (tx, rx) = gorun::channel::<()>(0);
    assert!(group.try_go(move || rx.recv().map_err(drop)).is_ok());
    assert!(group.try_go(|| Ok(())).is_err());
    tx.send(()).unwrap();
    group.wait().unwrap();
    assert!(group.try_go(|| Ok(())).is_ok());
    group.wait().unwrap();
}

/// Go, `errgroup.Group.SetLimit`: "A limit of zero will prevent any new goroutines from being added." "A negative value indicates no
/// limit": here `None`.
#[test]
fn limits_can_be_none_or_zero() {
    let group = ErrGroup::<()>::new();
    group.set_limit(0);
    let given_back = group.try_go(|| Err(())).unwrap_err();
    group.set_limit(None);
    group.go(given_back);
    assert_eq!(group.wait(), Err(()));
}

/// Go, `errgroup.Group.SetLimit`: "The limit must not be modified while any goroutines in the group are active." It panics.
#[test]
fn the_limit_of_an_active_group_is_fixed() {
    let group = ErrGroup::<()>::new();
    let (tx, rx) = gorun::channel::<()>(0);
    group.go(move || rx.recv().map_err(drop));
    let panic = catch_unwind(AssertUnwindSafe(|| group.set_limit(3))).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("while 1 goroutines of the group are active"));
    tx.send(()).unwrap();
    group.wait().unwrap();
    group.set_limit(3);
}

/// In Go a panic ends the process; here it cancels the context, and goes on from `wait` after all have ended.
#[test]
fn a_panic_goes_on_from_wait() {
    let (group, ctx) = ErrGroup::<&str>::with_context(&background());
    let ended = Arc::new(AtomicUsize::new(0));
    group.go({
        let (ended, ctx) = (ended.clone(), ctx.clone());
        move || {
            ctx.done().recv().unwrap_err();
            ended.fetch_add(1, Ordering::Relaxed);
            Err("late")
        }
    });
    group.go(|| std::panic::panic_any(99u8));
    let panic = catch_unwind(AssertUnwindSafe(|| group.wait())).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&99u8));
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    assert_eq!(ctx.cause().unwrap().to_string(), "a goroutine of the group panicked");
    assert_eq!(group.wait(), Ok(()), "told once");
}

#[test]
fn goexit_is_no_failure() {
    let (group, ctx) = ErrGroup::<&str>::with_context(&background());
    group.set_limit(1);
    group.go(|| gorun::goexit());
    group.go(move || if ctx.err().is_none() { Ok(()) } else { Err("canceled") });
    assert_eq!(group.wait(), Ok(()));
}

/// Goroutines of the group may start others in it.
#[test]
fn a_group_grows_from_inside() {
    fn split(group: &ErrGroup<()>, leaves: &Arc<AtomicUsize>, n: usize) {
        if n == 0 {
            leaves.fetch_add(1, Ordering::Relaxed);
            return;
        }
        for _ in 0..2 {
            let (inner, leaves) = (group.clone(), leaves.clone());
            group.go(move || {
                split(&inner, &leaves, n - 1);
                Ok(())
            });
        }
    }
    let (group, leaves) = (ErrGroup::new(), Arc::new(AtomicUsize::new(0)));
    split(&group, &leaves, 8);
    group.wait().unwrap();
    assert_eq!(leaves.load(Ordering::Relaxed), 256);
}

#[test]
fn who_waits_can_be_aborted() {
    on_one_worker(|| {
        let group = ErrGroup::<()>::new();
        group.set_limit(1);
        let (tx, rx) = gorun::channel::<()>(0);
        group.go(move || rx.recv().map_err(drop));
        let owned = Arc::new(());
        let waiting = [
            gorun::go({
                let (group, owned) = (group.clone(), owned.clone());
                move || {
                    group.go(move || {
                        let _owned = owned;
                        Ok(())
                    });
                    Ok(())
                }
            }),
            gorun::go({
                let group = group.clone();
                move || group.wait()
            }),
        ];
        gorun::yield_now();
        waiting.iter().for_each(|w| w.abort());
        assert!(waiting.into_iter().all(|w| w.join().unwrap_err().is_aborted()));
        assert_eq!(Arc::strong_count(&owned), 1, "dropped with its goroutine");
        tx.send(()).unwrap();
        group.wait().unwrap();
        // The room is there again, and not twice.
        let (tx, rx) = gorun::channel::<()>(0);
        group.go(move || rx.recv().map_err(drop));
        assert!(group.try_go(|| Ok(())).is_err());
        tx.send(()).unwrap();
        group.wait().unwrap();
    });
}

/// A runtime that ends while a group is at work: the group ends too.
#[test]
fn a_group_ends_with_its_runtime() {
    let group = ErrGroup::<()>::new();
    on_one_worker(|| {
        for _ in 0..10 {
            group.go(|| {
                sleep(LONG);
                Ok(())
            });
        }
        gorun::yield_now();
        for _ in 0..10 {
            // Some of these never begin.
            group.go(|| Ok(()));
        }
    });
    // Some were aborted, which is not to have gone well.
    let payload = catch_unwind(AssertUnwindSafe(|| group.wait())).unwrap_err();
    assert!(payload.downcast_ref::<String>().unwrap().contains("the end of its runtime"));
    assert_eq!(group.wait(), Ok(()), "it has been told");
}

/// Aborts hit those who wait for room at every point: no room is lost.
#[test]
fn no_room_is_lost_to_aborts() {
    gorun::run(|| {
        let group = ErrGroup::<()>::new();
        group.set_limit(2);
        for round in 0..300 {
            let starters: Vec<_> = (0..4)
                .map(|_| {
                    let group = group.clone();
                    gorun::go(move || {
                        group.go(|| {
                            gorun::yield_now();
                            Ok(())
                        });
                    })
                })
                .collect();
            if round % 2 == 0 {
                gorun::yield_now();
            }
            starters.iter().step_by(2).for_each(|s| s.abort());
            starters.into_iter().for_each(|s| drop(s.join()));
            group.wait().unwrap();
        }
        // Both places are there.
        let (tx, rx) = gorun::channel::<()>(0);
        for _ in 0..2 {
            let rx = rx.clone();
            assert!(group.try_go(move || rx.recv().map_err(drop)).is_ok());
        }
        assert!(group.try_go(|| Ok(())).is_err());
        (0..2).for_each(|_| tx.send(()).unwrap());
        group.wait().unwrap();
    });
}

/// The context's end gets a goroutine on that waits in `go` for room that only its own end can give.
#[test]
fn go_inside_a_full_group_does_not_outlast_the_context() {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (context, _cancel) = background().with_timeout(Duration::from_millis(20));
        let (group, _ctx) = ErrGroup::<&str>::with_context(&context);
        group.set_limit(1);
        let inside = group.clone();
        let ran = Arc::new(AtomicUsize::new(0));
        let runs = ran.clone();
        group.go(move || {
            inside.go(move || {
                runs.fetch_add(1, Ordering::SeqCst);
                Err("too late")
            });
            Ok(())
        });
        tell.send((group.wait(), ran.load(Ordering::SeqCst))).unwrap();
    });
    let waited = told.recv_timeout(Duration::from_secs(60)).expect("it hangs");
    // What was to be called is called, and what it says is heard.
    assert_eq!(waited, (Err("too late"), 1));
}

#[test]
fn the_cause_can_be_the_error_itself() {
    #[derive(Clone, Debug, PartialEq)]
    struct NoSuchHost(u32);
    impl std::fmt::Display for NoSuchHost {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "no such host: {}", self.0)
        }
    }
    impl std::error::Error for NoSuchHost {}

    let (group, ctx) = ErrGroup::with_context_cause(&background(), NoSuchHost::clone);
    let derived = ctx.with_value(1);
    group.go(|| Err(NoSuchHost(7)));
    assert_eq!(group.wait(), Err(NoSuchHost(7)));
    for ctx in [ctx, derived] {
        assert_eq!(ctx.err(), Some(ContextError::Canceled));
        assert_eq!(ctx.cause().unwrap().downcast_ref(), Some(&NoSuchHost(7)));
    }
    // A cause that can't be made does not hide the failure.
    let (group, ctx) = ErrGroup::<u8>::with_context_cause(&background(), |_| -> &str { panic!("no cause") });
    group.go(|| Err(7));
    assert_eq!(group.wait(), Err(7));
    assert!(ctx.cause().unwrap().to_string().contains("could not be made"));
}
