//! Contexts: what Go's package `context` documents, trees that are wide or deep, and races.

use gorun::chan::TryRecvError;
use gorun::context::{CancelFunc, Context, ContextError, background, current, todo};
use gorun::runtime::Builder;
use gorun::time::{Duration, Instant, sleep};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);
const WATCHDOG: Duration = Duration::from_secs(60);
const CANCELED: Option<ContextError> = Some(ContextError::Canceled);
const EXCEEDED: Option<ContextError> = Some(ContextError::DeadlineExceeded);

fn is_done(ctx: &Context) -> bool {
    ctx.done().try_recv() == Err(TryRecvError::Closed)
}

fn cause(ctx: &Context) -> Option<String> {
    ctx.cause().map(|cause| cause.to_string())
}

/// A function to be called, and how often it has been and how often dropped.
struct Counts {
    called: Arc<AtomicUsize>,
    owned: Arc<()>,
}

impl Counts {
    fn new() -> Counts {
        Counts { called: Arc::default(), owned: Arc::default() }
    }

    fn func(&self) -> impl Fn() + Send + 'static {
        let (called, owned) = (self.called.clone(), self.owned.clone());
        move || {
            let _owned = &owned;
            called.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn called(&self) -> usize {
        self.called.load(Ordering::Relaxed)
    }

    fn undropped(&self) -> usize {
        Arc::strong_count(&self.owned) - 1
    }
}

/// Go, `context.Background`: "It is never canceled, has no values, and has no deadline." `TODO` the same.
#[test]
fn background_is_empty() {
    for ctx in [background(), todo(), Context::default()] {
        assert!(ctx.err().is_none() && ctx.cause().is_none() && ctx.deadline().is_none());
        assert_eq!(ctx.value::<&str>(), None);
        assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
        assert_eq!(ctx.check(), Ok(()));
    }
}

/// Go, `context.WithCancel`: "The returned context's Done channel is closed when the returned cancel function is called or when the
/// parent context's Done channel is closed, whichever happens first." `Context.Err`: "If Done is not yet closed, Err
/// returns nil. If Done is closed, Err returns a non-nil error explaining why".
#[test]
fn cancel_closes_done_here_and_below() {
    let (parent, cancel_parent) = background().with_cancel();
    let (one, cancel_one) = parent.with_cancel();
    let (other, _cancel_other) = parent.with_cancel();
    let (below, _cancel_below) = other.with_value(1u8).with_cancel();
    cancel_one.cancel();
    assert_eq!([&parent, &one, &other, &below].map(is_done), [false, true, false, false]);
    assert_eq!([&parent, &one, &other, &below].map(Context::err), [None, CANCELED, None, None]);
    cancel_parent.cancel();
    assert_eq!([&parent, &one, &other, &below].map(is_done), [true; 4]);
    assert_eq!(below.check(), Err(ContextError::Canceled));
}

/// The same for a parent that is over already.
#[test]
fn what_is_derived_from_a_canceled_context_is_canceled() {
    let (parent, cancel) = background().with_cancel_cause();
    cancel.cancel("early");
    let (child, _cancel) = parent.with_cancel();
    let (timed, _cancel) = parent.with_timeout(LONG);
    for ctx in [child, timed, parent.with_value(1u8)] {
        assert!(is_done(&ctx));
        assert_eq!((ctx.err(), cause(&ctx)), (CANCELED, Some("early".into())));
    }
}

/// Go, `context.Context.Done`: "Successive calls to Done return the same value." `Err`: "After Err returns a non-nil error, successive
/// calls to Err return the same error."
#[test]
fn done_and_err_stay_the_same() {
    let (ctx, cancel) = background().with_timeout(LONG);
    let before = ctx.done().clone();
    assert!(before.same_channel(ctx.done()) && before.same_channel(ctx.with_value(1u8).done()));
    cancel.cancel();
    assert!(before.same_channel(ctx.done()));
    assert_eq!(ctx.err(), CANCELED);
    drop(cancel);
    assert_eq!(ctx.err(), CANCELED);
}

/// Go, `context.CancelFunc`: "may be called by multiple goroutines simultaneously. After the first call, subsequent calls to a
/// CancelFunc do nothing." Here from plain threads as well.
#[test]
fn anybody_may_cancel_at_once() {
    for _ in 0..200 {
        let (ctx, cancel) = background().with_cancel_cause();
        let cancel = Arc::new(cancel);
        let waiting = [gorun::go({
            let ctx = ctx.clone();
            move || ctx.done().recv().is_err()
        })];
        let cancelers: Vec<_> = (0..2)
            .map(|n| {
                let cancel = cancel.clone();
                std::thread::spawn(move || cancel.cancel(format!("thread {n}")))
            })
            .collect();
        let goroutine = gorun::go(move || cancel.cancel("goroutine"));
        cancelers.into_iter().for_each(|t| t.join().unwrap());
        goroutine.join().unwrap();
        let first = cause(&ctx);
        assert!(first.is_some() && first == cause(&ctx));
        assert!(waiting.into_iter().all(|w| w.join().unwrap()));
    }
}

/// Go, `context.CancelFunc`: "A CancelFunc does not wait for the work to stop."
#[test]
fn a_cancel_does_not_wait() {
    let (ctx, cancel) = background().with_cancel();
    let (open, gate) = gorun::channel::<()>(0);
    let work = gorun::go(move || {
        let _canceled = ctx.done().recv();
        gate.recv()
    });
    // If it waited, it would for ever.
    cancel.cancel();
    assert!(!work.is_finished());
    drop(open);
    assert!(work.join().unwrap().is_err());
}

/// Go, `context.Context`: "Context's methods may be called by multiple goroutines simultaneously."
#[test]
fn anybody_may_ask_at_once() {
    let (ctx, cancel) = background().with_value(5u8).with_timeout(LONG);
    let ask =
        |ctx: Context| move || (ctx.done().recv().is_err(), ctx.err(), ctx.value::<u8>().copied(), ctx.deadline());
    let goroutines: Vec<_> = (0..8).map(|_| gorun::go(ask(ctx.clone()))).collect();
    let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(ask(ctx.clone()))).collect();
    cancel.cancel();
    let answers =
        goroutines.into_iter().map(|g| g.join().unwrap()).chain(threads.into_iter().map(|t| t.join().unwrap()));
    answers.for_each(|answer| assert_eq!(answer, (true, CANCELED, Some(5), ctx.deadline())));
}

/// A lost cancel function, which `go vet` warns of, cancels here.
#[test]
fn dropping_the_cancel_func_cancels() {
    let (ctx, cancel) = background().with_cancel();
    drop(cancel);
    assert_eq!((ctx.err(), cause(&ctx)), (CANCELED, Some("context canceled".into())));
}

/// Go, `context.CancelFunc`, failing to call it: "leaks the child and its children until the parent is canceled".
#[test]
fn a_detached_context_ends_with_its_parent() {
    let (parent, cancel) = background().with_cancel();
    let counts = Counts::new();
    let done = {
        let (ctx, own) = parent.with_cancel();
        own.detach();
        ctx.after_func(counts.func());
        ctx.done().clone()
    };
    assert_eq!(done.try_recv(), Err(TryRecvError::Empty), "nobody has the context, and it is not over");
    cancel.cancel();
    assert!(done.recv().is_err());
    until(|| counts.called() == 1 && counts.undropped() == 0);
}

#[test]
fn a_detached_deadline_holds() {
    let (ctx, own) = background().with_timeout(SHORT);
    own.detach();
    let done = ctx.done().clone();
    drop(ctx);
    assert!(done.recv().is_err());
    let (ctx, own) = background().with_timeout(SHORT);
    own.detach();
    assert!(ctx.done().recv().is_err());
    assert_eq!(ctx.err(), EXCEEDED);
}

/// For what happens on another goroutine and leaves no other trace.
fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < WATCHDOG);
        sleep(SHORT);
    }
}

// Causes

/// Go, `context.WithCancelCause`: "Calling cancel with a non-nil error (the "cause") records that error in ctx". `Cause`: "returns nil
/// if c has not been canceled yet".
#[test]
fn the_cause_is_recorded() {
    let (ctx, cancel) = background().with_cancel_cause();
    assert!(ctx.cause().is_none());
    cancel.cancel(std::io::Error::other("disk"));
    assert_eq!((ctx.err(), cause(&ctx)), (CANCELED, Some("disk".into())));
    assert!(ctx.cause().unwrap().downcast_ref::<std::io::Error>().is_some());
}

/// Go, `context.Cause`: "Otherwise Cause(c) returns the same value as c.Err()."
#[test]
fn without_a_cause_it_is_the_error() {
    let (ctx, cancel) = background().with_cancel();
    cancel.cancel();
    assert_eq!(ctx.cause().unwrap().downcast_ref(), ctx.err().as_ref());
    let (late, _cancel) = background().with_timeout(Duration::ZERO);
    assert_eq!(late.cause().unwrap().downcast_ref(), Some(&ContextError::DeadlineExceeded));
}

/// Go, `context.CancelCauseFunc`: "if parentContext is canceled with cause1 before childContext is canceled with cause2, then
/// Cause(parentContext) == Cause(childContext) == cause1", "if childContext is canceled with cause2 before parentContext is
/// canceled with cause1, then Cause(parentContext) == cause1 and Cause(childContext) == cause2".
#[test]
fn the_first_cause_counts() {
    let two = || {
        let (parent, cancel_parent) = background().with_cancel_cause();
        let (child, cancel_child) = parent.with_cancel_cause();
        (parent, cancel_parent, child, cancel_child)
    };
    let (parent, cancel_parent, child, cancel_child) = two();
    cancel_parent.cancel("cause1");
    cancel_child.cancel("cause2");
    assert_eq!([cause(&parent), cause(&child)], [Some("cause1".into()), Some("cause1".into())]);
    let (parent, cancel_parent, child, cancel_child) = two();
    cancel_child.cancel("cause2");
    cancel_parent.cancel("cause1");
    assert_eq!([cause(&parent), cause(&child)], [Some("cause1".into()), Some("cause2".into())]);
}

// Deadlines

/// Go, `context.WithDeadline`: "closed when the deadline expires".
#[test]
fn a_deadline_expires() {
    let check = || {
        let deadline = Instant::now() + SHORT;
        let (ctx, _cancel) = background().with_deadline(deadline);
        let (below, _cancel_below) = ctx.with_cancel();
        assert_eq!((ctx.deadline(), below.deadline()), (Some(deadline), Some(deadline)));
        assert!(below.done().recv().is_err());
        assert!(Instant::now() >= deadline);
        assert_eq!((ctx.err(), below.err()), (EXCEEDED, EXCEEDED));
    };
    check();
    gorun::go(check).join().unwrap();
}

/// Go, `context.WithDeadline`: "when the returned cancel function is called, or when the parent context's Done channel is closed".
#[test]
fn a_deadline_can_be_canceled() {
    let (parent, cancel_parent) = background().with_cancel();
    let (ctx, cancel) = parent.with_timeout(LONG);
    cancel.cancel();
    assert_eq!((ctx.err(), parent.err()), (CANCELED, None));
    let (ctx, _cancel) = parent.with_timeout(LONG);
    cancel_parent.cancel();
    assert_eq!(ctx.err(), CANCELED);
}

/// Go, `context.WithDeadline`: "If the parent's deadline is already earlier than d, WithDeadline(parent, d) is semantically equivalent
/// to parent."
#[test]
fn the_earlier_deadline_holds() {
    let soon = Instant::now() + SHORT;
    let (parent, _cancel) = background().with_deadline_cause(soon, "parent's");
    let (child, _cancel_child) = parent.with_deadline_cause(soon + LONG, "child's");
    assert_eq!(child.deadline(), Some(soon));
    assert!(child.done().recv().is_err());
    assert_eq!((child.err(), cause(&child)), (EXCEEDED, Some("parent's".into())));
    let (parent, _cancel) = background().with_timeout(LONG);
    let (child, _cancel_child) = parent.with_timeout(SHORT);
    assert!(child.deadline() < parent.deadline());
    assert!(child.done().recv().is_err());
    assert_eq!((child.err(), parent.err()), (EXCEEDED, None));
}

/// A deadline that has passed, `WithDeadline` in Go's source: "deadline has already passed".
#[test]
fn a_deadline_may_have_passed() {
    let (ctx, cancel) = background().with_deadline(Instant::now());
    assert!(is_done(&ctx));
    cancel.cancel();
    assert_eq!(ctx.err(), EXCEEDED);
}

#[test]
fn a_timeout_beyond_the_clock_is_none() {
    let (ctx, cancel) = background().with_timeout(Duration::MAX);
    assert_eq!((ctx.deadline(), ctx.err()), (None, None));
    cancel.cancel();
    assert_eq!(ctx.err(), CANCELED);
}

/// Go, `context.WithDeadlineCause`: "also sets the cause of the returned Context when the deadline is exceeded. The returned
/// CancelFunc does not set the cause."
#[test]
fn a_deadlines_cause_is_the_deadlines() {
    let (ctx, _cancel) = background().with_timeout_cause(SHORT, "too slow");
    assert!(ctx.done().recv().is_err());
    assert_eq!((ctx.err(), cause(&ctx)), (EXCEEDED, Some("too slow".into())));
    let (ctx, cancel) = background().with_timeout_cause(LONG, "too slow");
    cancel.cancel();
    assert_eq!((ctx.err(), cause(&ctx)), (CANCELED, Some("context canceled".into())));
}

// Values

/// Go, `context.WithValue`: "In the derived context, the value associated with key is val."
#[test]
fn values_are_found_from_the_nearest() {
    #[derive(PartialEq, Debug)]
    struct User(&'static str);
    let ann = background().with_value(User("ann"));
    let (below, _cancel) = ann.with_value(7u32).with_cancel();
    let bob = below.with_value(User("bob"));
    assert_eq!(ann.value(), Some(&User("ann")));
    assert_eq!((below.value(), below.value()), (Some(&User("ann")), Some(&7u32)));
    assert_eq!((bob.value(), bob.value()), (Some(&User("bob")), Some(&7u32)));
    assert_eq!(bob.value::<u64>(), None);
}

/// Go, `context.WithoutCancel`: "not canceled when parent is canceled. The returned context returns no Deadline or Err, and its Done
/// channel is nil. Calling Cause on the returned context returns nil."
#[test]
fn without_cancel_only_values_are_left() {
    let (ctx, cancel) = background().with_value(3u8).with_timeout(LONG);
    let free = ctx.without_cancel();
    let (derived, _cancel) = free.with_cancel();
    cancel.cancel();
    assert!(free.err().is_none() && free.cause().is_none() && free.deadline().is_none() && derived.err().is_none());
    assert_eq!(free.done().try_recv(), Err(TryRecvError::Empty));
    assert_eq!(free.value(), Some(&3u8));
}

// AfterFunc

/// Go, `context.AfterFunc`: "arranges to call f in its own goroutine after ctx is canceled."
#[test]
fn a_function_is_called_after_the_cancel() {
    let (tx, rx) = gorun::channel(1);
    let (parent, cancel) = background().with_cancel();
    let (ctx, _cancel) = parent.with_cancel();
    let seen = ctx.clone();
    let call = ctx.after_func(move || tx.send((seen.err(), gorun::id(), gorun::current().is_some())).unwrap());
    cancel.cancel();
    let (error, id, in_goroutine) = rx.recv_timeout(WATCHDOG).unwrap();
    assert!(error == CANCELED && in_goroutine && id != gorun::id());
    assert!(!call.stop(), "it has been started");
}

/// Go, `context.AfterFunc`: "If ctx is already canceled, AfterFunc calls f immediately in its own goroutine."
#[test]
fn a_function_comes_too_late_and_is_called() {
    let (ctx, cancel) = background().with_cancel();
    cancel.cancel();
    let (tx, rx) = gorun::channel(1);
    let call = ctx.after_func(move || tx.send(()).unwrap());
    rx.recv_timeout(WATCHDOG).unwrap();
    assert!(!call.stop());
}

/// Go, `context.AfterFunc`: "Multiple calls to AfterFunc on a context operate independently; one does not replace another." And:
/// "Calling the returned stop function stops the association of ctx with f. It returns true if the call stopped f from
/// being run. If stop returns false, either the context is canceled and f has been started in its own goroutine; or f was
/// already stopped."
#[test]
fn functions_are_independent_of_each_other() {
    let (ctx, cancel) = background().with_cancel();
    let (kept, stopped) = (Counts::new(), Counts::new());
    let calls: Vec<_> = (0..4).map(|_| ctx.after_func(kept.func())).collect();
    let off = ctx.after_func(stopped.func());
    assert!(off.stop());
    assert_eq!(stopped.undropped(), 0);
    assert!(!off.stop());
    cancel.cancel();
    until(|| kept.called() == 4 && kept.undropped() == 0);
    assert!(calls.iter().all(|call| !call.stop()));
    assert_eq!(stopped.called(), 0);
}

/// Go, `context.AfterFunc`: "The stop function does not wait for f to complete before returning."
#[test]
fn stop_does_not_wait_for_the_function() {
    let (ctx, cancel) = background().with_cancel();
    let (started, has_started) = gorun::channel(0);
    let (go_on, may_go_on) = gorun::channel::<()>(0);
    let call = ctx.after_func(move || {
        started.send(()).unwrap();
        may_go_on.recv().unwrap();
    });
    cancel.cancel();
    has_started.recv().unwrap();
    assert!(!call.stop());
    go_on.send(()).unwrap();
}

#[test]
fn a_function_after_no_cancel_is_never_called() {
    let counts = Counts::new();
    let call = background().after_func(counts.func());
    assert_eq!(counts.undropped(), 0);
    assert!(call.stop() && !call.stop());
}

#[test]
fn a_panic_in_a_function_leaves_the_others() {
    let (ctx, cancel) = background().with_cancel();
    let counts = Counts::new();
    ctx.after_func(counts.func());
    ctx.after_func(|| panic!("on purpose"));
    ctx.after_func(counts.func());
    cancel.cancel();
    until(|| counts.called() == 2);
}

// The current context

#[test]
fn the_current_context_is_inherited() {
    let (ctx, cancel) = background().with_value(5u16).with_cancel();
    let inner = ctx.scope(|| {
        let grandchild = gorun::go(|| gorun::go(|| current().value::<u16>().copied()).join().unwrap());
        assert_eq!(grandchild.join().unwrap(), Some(5));
        current().with_value(6u16).scope(|| current().value::<u16>().copied())
    });
    assert_eq!(inner, Some(6));
    assert_eq!(current().value::<u16>(), None);
    let waiting = ctx.scope(|| gorun::go(|| current().done().recv().is_err()));
    cancel.cancel();
    assert!(waiting.join().unwrap());
}

// Who waits

#[test]
fn who_waits_for_done_can_be_aborted() {
    let (ctx, _cancel) = background().with_cancel();
    let waiting = gorun::go({
        let ctx = ctx.clone();
        move || ctx.done().recv()
    });
    waiting.abort();
    assert!(waiting.join().unwrap_err().is_aborted());
    assert!(ctx.err().is_none());
}

/// An abort unwinds through the guard.
#[test]
fn an_abort_cancels_what_the_goroutine_has_derived() {
    let (tx, rx) = gorun::channel(1);
    let goroutine = gorun::go(move || {
        let (ctx, _cancel) = background().with_cancel();
        tx.send(ctx.clone()).unwrap();
        sleep(LONG);
    });
    let ctx = rx.recv().unwrap();
    goroutine.abort();
    assert!(ctx.done().recv().is_err());
    assert_eq!(ctx.err(), CANCELED);
}

// Large trees

/// 100,000 children of one parent: those that leave by themselves, and those that go with it.
#[test]
fn a_wide_tree() {
    const N: usize = 100_000;
    let (parent, cancel) = background().with_cancel();
    let mut children: Vec<(Context, CancelFunc)> = (0..N).map(|_| parent.with_cancel()).collect();
    // From the middle, in another order than they came.
    for n in (0..N).step_by(3) {
        children[n * 7919 % N].1.cancel();
    }
    let canceled = children.iter().filter(|(ctx, _)| ctx.err().is_some()).count();
    assert_eq!(canceled, N.div_ceil(3));
    children.truncate(N / 2);
    children.extend((0..N / 2).map(|_| parent.with_cancel()));
    let waiting: Vec<_> = children.iter().step_by(100).map(|(ctx, _)| ctx.done().clone()).collect();
    let waiting = gorun::go(move || waiting.into_iter().filter(|done| done.recv().is_err()).count());
    cancel.cancel();
    assert!(children.iter().all(|(ctx, _)| ctx.err() == CANCELED), "before cancel returns");
    assert_eq!(waiting.join().unwrap(), N / 100);
}

/// A chain of 100,000, canceled and dropped on a goroutine's stack, from either end.
#[test]
fn a_deep_tree() {
    const N: usize = 100_000;
    for canceled in [true, false] {
        for first_to_last in [true, false] {
            let deep = gorun::go(move || {
                let (root, cancel_root) = background().with_cancel();
                let mut chain = vec![root];
                let mut cancels = vec![cancel_root];
                for _ in 0..N {
                    let (ctx, cancel) = chain[chain.len() - 1].with_cancel();
                    chain.push(ctx);
                    cancels.push(cancel);
                }
                if canceled {
                    cancels[0].cancel();
                    assert!(chain.iter().all(|ctx| ctx.err() == CANCELED));
                    drop(cancels);
                } else {
                    cancels.into_iter().for_each(CancelFunc::detach);
                    assert!(chain[N].err().is_none());
                }
                if first_to_last { drop(chain) } else { while chain.pop().is_some() {} }
            });
            deep.join().unwrap();
        }
    }
}

/// A chain that only its end keeps.
#[test]
fn the_last_of_a_deep_tree_takes_all_along() {
    const N: usize = 100_000;
    gorun::go(|| {
        let mut ctx = background().with_value(0usize);
        for n in 1..=N {
            ctx = ctx.with_value(n);
        }
        assert_eq!(ctx.value::<usize>(), Some(&N));
        drop(ctx);
        let mut cancels = Vec::new();
        let mut ctx = background();
        for _ in 0..N {
            let (derived, cancel) = ctx.with_cancel();
            ctx = derived;
            cancels.push(cancel);
        }
        // From the last on: each is then kept by the one after it.
        while let Some(cancel) = cancels.pop() {
            cancel.cancel();
        }
        assert_eq!(ctx.err(), CANCELED);
        drop(ctx);
    })
    .join()
    .unwrap();
}

// Races

/// Children come and go while their parent is canceled: each ends, and none is left behind.
#[test]
fn children_are_born_while_the_parent_is_canceled() {
    for round in 0..200 {
        let (parent, cancel) = background().with_cancel();
        let counts = Arc::new(Counts::new());
        let parents: Vec<_> = (0..3)
            .map(|n| {
                let (parent, counts) = (parent.clone(), counts.clone());
                gorun::go(move || {
                    let mut kept = Vec::new();
                    for i in 0..20 {
                        let (ctx, own) =
                            if (i + n) % 2 == 0 { parent.with_cancel() } else { parent.with_timeout(LONG) };
                        match i % 4 {
                            0 => drop(own),
                            1 => own.detach(),
                            2 => kept.push((ctx.clone(), own)),
                            _ => own.cancel(),
                        }
                        if i == 10 {
                            parent.after_func(counts.func());
                            gorun::yield_now();
                        }
                        kept.extend((i % 4 == 1).then(|| ctx.with_cancel()));
                    }
                    parent.done().recv().unwrap_err();
                    kept.iter().for_each(|(ctx, _)| assert!(ctx.done().recv().is_err() && ctx.err() == CANCELED));
                })
            })
            .collect();
        if round % 2 == 0 {
            gorun::yield_now();
        }
        cancel.cancel();
        parents.into_iter().for_each(|p| p.join().unwrap());
        until(|| counts.called() == 3);
    }
}

/// Deadlines and cancels at the same moment: one of them wins, and stays.
#[test]
fn deadlines_race_cancels() {
    gorun::run(|| {
        let all: Vec<_> = (0..2000u64)
            .map(|n| {
                gorun::go(move || {
                    let delay = Duration::from_micros(n % 50);
                    let (ctx, cancel) = background().with_timeout_cause(delay, "late");
                    sleep(delay);
                    cancel.cancel();
                    let (error, cause) = (ctx.err().unwrap(), cause(&ctx).unwrap());
                    assert_eq!(cause, if error == ContextError::Canceled { "context canceled" } else { "late" });
                    assert!(ctx.done().recv().is_err());
                    gorun::yield_now();
                    assert_eq!(ctx.err(), Some(error));
                })
            })
            .collect();
        all.into_iter().for_each(|g| g.join().unwrap());
    });
}

/// A function is stopped or called, never both, and dropped in either case.
#[test]
fn stopping_a_function_races_the_cancel() {
    let counts = Arc::new(Counts::new());
    let mut stopped = 0;
    for _ in 0..500 {
        let (ctx, cancel) = background().with_cancel();
        let call = ctx.after_func(counts.func());
        let canceler = gorun::go(move || cancel.cancel());
        stopped += usize::from(call.stop());
        canceler.join().unwrap();
    }
    until(|| counts.called() + stopped == 500 && counts.undropped() == 0);
}

/// What is pending when its runtime ends is let go: a deadline that can't pass any more ends its context.
#[test]
fn contexts_outlive_the_runtime_of_their_deadline() {
    let counts = Counts::new();
    let (ctx, cancel) = Builder::new().workers(1).build().unwrap().run(|| {
        let (ctx, cancel) = background().with_timeout(LONG);
        let (detached, own) = background().with_timeout(LONG);
        own.detach();
        detached.after_func(counts.func());
        (ctx, cancel)
    });
    assert_eq!((ctx.err(), counts.undropped(), counts.called()), (CANCELED, 0, 0));
    cancel.cancel();
    assert!(ctx.cause().unwrap().to_string().contains("runtime"));
}
