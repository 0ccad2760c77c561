//! What holds when a cancel returns and when a context's end is seen, whoever else cancels at the same time; and that
//! nobody ends a context but those who may.

mod common;

use common::{GENEROUS, within};
use gorun::context::{CancelFunc, Context, ContextError, background};
use gorun::sync::Semaphore;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// A chain of `depth` contexts below `top`, each with a sibling.
fn chain(top: &Context, depth: usize) -> Vec<(Context, CancelFunc)> {
    let mut all: Vec<(Context, CancelFunc)> = Vec::new();
    for _ in 0..depth {
        let parent = all.last().map_or(top, |(last, _)| last).clone();
        all.push(parent.with_cancel());
        let child = parent.with_cancel();
        all.insert(0, child);
    }
    all
}

fn assert_all_over(all: &[(Context, CancelFunc)]) {
    for (n, (context, _)) in all.iter().enumerate() {
        assert!(context.err().is_some(), "context {n} of {} is alive", all.len());
        assert!(context.done().is_closed(), "the channel of context {n} of {} is open", all.len());
    }
}

#[test]
fn all_descendants_are_over_when_cancel_returns_though_another_cancels_one_in_between() {
    for round in 0..1000 {
        let (root, cancel_root) = background().with_cancel();
        let (middle, cancel_middle) = root.with_cancel();
        let below = chain(&middle, 20);
        let ready = Barrier::new(2);
        std::thread::scope(|s| {
            s.spawn(|| {
                ready.wait();
                cancel_middle.cancel();
                assert_all_over(&below);
            });
            ready.wait();
            (0..round % 200).for_each(|_| std::hint::spin_loop());
            cancel_root.cancel();
            assert!(middle.err().is_some() && middle.done().is_closed());
            assert_all_over(&below);
        });
    }
}

#[test]
fn all_descendants_are_over_when_cancel_returns_though_a_deadline_passes_in_between() {
    for round in 0..1000 {
        let (root, cancel) = background().with_cancel();
        let (middle, _own) = root.with_timeout(Duration::from_micros(50 + round % 50));
        let below = chain(&middle, 20);
        while middle.err().is_none() && Instant::now() < middle.deadline().unwrap() + Duration::from_micros(20) {
            std::hint::spin_loop();
        }
        cancel.cancel();
        assert_all_over(&below);
    }
}

/// Cancels, and says whether all were over when that returned.
struct Canceler {
    cancel: Arc<CancelFunc>,
    all: Vec<Context>,
    over: OnceLock<bool>,
}

impl Wake for Canceler {
    fn wake(self: Arc<Self>) {
        self.cancel.cancel();
        let over = self.all.iter().all(|context| context.err().is_some() && context.done().is_closed());
        self.over.set(over).unwrap();
    }
}

/// A context's end wakes a future whose waker cancels the root, or a sibling.
#[test]
fn a_waker_may_cancel_what_is_being_canceled() {
    within(|| {
        for of_sibling in [false, true] {
            let (root, cancel) = background().with_cancel();
            let cancel = Arc::new(cancel);
            let (left, cancel_left) = root.with_cancel();
            let (right, _right) = root.with_cancel();
            let (below, _below) = left.with_cancel();
            let all = if of_sibling { vec![left, below] } else { vec![root.clone(), left, right.clone(), below] };
            let canceler = if of_sibling { Arc::new(cancel_left) } else { cancel.clone() };
            let waker = Arc::new(Canceler { cancel: canceler, all, over: OnceLock::new() });
            let mut ended = pin!(if of_sibling { right.done() } else { root.done() }.recv_async());
            let std_waker = Waker::from(waker.clone());
            assert!(ended.as_mut().poll(&mut std::task::Context::from_waker(&std_waker)).is_pending());
            cancel.cancel();
            assert_eq!(waker.over.get(), Some(&true), "of a sibling: {of_sibling}");
        }
    });
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of a user's");
    }
}

/// Nor does it reach the canceler.
#[test]
fn a_waker_that_panics_keeps_nobody_alive() {
    let (root, cancel) = background().with_cancel();
    let below = chain(&root, 3);
    let called = Arc::new(AtomicBool::new(false));
    let call = called.clone();
    below[0].0.after_func(move || call.store(true, Ordering::SeqCst));
    let waker = Waker::from(Arc::new(Panics));
    let mut futures: Vec<_> = below.iter().map(|(context, _)| Box::pin(context.done().recv_async())).collect();
    for future in &mut futures {
        assert!(future.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    }
    cancel.cancel();
    assert_all_over(&below);
    for future in &mut futures {
        let polled = future.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Err(_))));
    }
    common::until(|| called.load(Ordering::SeqCst));
}

/// In Go a context's error is there if and only if its channel is closed.
#[test]
fn the_error_is_there_when_the_channel_is_closed_and_not_before() {
    within(the_error_and_the_channel);
}

fn the_error_and_the_channel() {
    let (give, given) = mpsc::channel::<CancelFunc>();
    let canceler = std::thread::spawn(move || {
        for (n, cancel) in given.into_iter().enumerate() {
            (0..n % 100).for_each(|_| std::hint::spin_loop());
            cancel.cancel();
        }
    });
    let (mut early, mut late) = (0, 0);
    for round in 0..20_000 {
        let (root, cancel) = background().with_cancel();
        let (context, _own) = root.with_cancel();
        let done = context.done();
        give.send(cancel).unwrap();
        if round % 2 == 0 {
            while context.err().is_none() {}
            early += u32::from(!done.is_closed());
        } else {
            while !done.is_closed() {}
            late += u32::from(context.err().is_none());
        }
    }
    drop(give);
    canceler.join().unwrap();
    assert_eq!((early, late), (0, 0), "errors before the close, closes before the error");
}

#[test]
fn a_receiver_does_not_end_a_context() {
    let (context, cancel) = background().with_cancel();
    for done in [background().done(), context.done()] {
        done.close();
        assert!(!done.is_closed());
        assert!(done.try_recv().is_err_and(|error| error == gorun::chan::TryRecvError::Empty));
    }
    // One that waits is not told of an end that there is not.
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut waits = pin!(context.done().recv_async());
    let mut poll = || waits.as_mut().poll(&mut std::task::Context::from_waker(&waker));
    assert!(poll().is_pending());
    context.done().close();
    assert!(!woken.0.load(Ordering::SeqCst) && poll().is_pending() && context.err().is_none());
    cancel.cancel();
    assert!(woken.0.load(Ordering::SeqCst) && poll().is_ready());
    assert_eq!(context.err(), Some(ContextError::Canceled));
    assert!(context.done().is_closed());
}

/// Permits are given because they are there, whatever is done to the context's channel.
#[test]
fn a_semaphore_gives_no_permits_that_are_not_there() {
    within(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let (context, cancel) = background().with_cancel();
        let permit = semaphore.acquire(1);
        let taken = Arc::new(AtomicUsize::new(0));
        let waiter = gorun::go({
            let (semaphore, context, taken) = (semaphore.clone(), context.clone(), taken.clone());
            move || {
                let result = semaphore.acquire_with(&context, 1);
                taken.fetch_add(usize::from(result.is_ok()), Ordering::SeqCst);
                result.map(drop)
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {
            context.done().clone().close();
            assert_eq!(taken.load(Ordering::SeqCst), 0, "the only permit is taken");
            gorun::yield_now();
        }
        assert!(start.elapsed() < GENEROUS);
        cancel.cancel();
        assert_eq!(waiter.join().unwrap(), Err(ContextError::Canceled));
        drop(permit);
        assert_eq!(semaphore.available_permits(), 1);
    });
}

/// What the library sends on is not closed by those who receive.
#[test]
fn a_receiver_does_not_close_a_timers_channel() {
    use gorun::time::{Timer, after, tick};
    let soon = Duration::from_millis(1);
    let timer = Timer::new(soon);
    timer.channel().close();
    assert!(timer.channel().recv().is_ok());
    timer.reset(soon);
    assert!(timer.channel().recv().is_ok());
    for channel in [after(soon), tick(soon)] {
        channel.close();
        assert!(!channel.is_closed());
        assert!(channel.recv().is_ok());
    }
    let never = gorun::never::<u8>();
    never.close();
    assert!(never.try_recv().is_err_and(|error| error == gorun::chan::TryRecvError::Empty));
}

/// Panics when it is dropped.
#[derive(Debug)]
struct DropPanics;

impl std::fmt::Display for DropPanics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("its drop panics")
    }
}

impl std::error::Error for DropPanics {}

impl Drop for DropPanics {
    fn drop(&mut self) {
        panic!("{self}");
    }
}

/// Cancels, and expects that a future of `done()` and a function are told of it though something else panics meanwhile.
fn assert_told_of_a_cancel(context: &Context, cancel: CancelFunc) {
    let (called, calls) = gorun::channel(1);
    context.after_func(move || called.send(()).unwrap());
    let woken = Arc::new(Woken::default());
    let mut waits = pin!(context.done().recv_async());
    let waker = Waker::from(woken.clone());
    assert!(waits.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    cancel.cancel();
    assert!(woken.0.load(Ordering::SeqCst), "who waits is woken");
    assert_eq!(calls.recv_timeout(GENEROUS), Ok(()), "the function is called");
}

/// A waker that tells that it was used.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_cause_whose_drop_panics_does_not_lose_a_wake_up() {
    let (context, cancel) = background().with_timeout_cause(Duration::from_secs(3600), DropPanics);
    assert_told_of_a_cancel(&context, cancel);
}

#[test]
fn a_function_whose_drop_panics_does_not_lose_a_wake_up() {
    let (context, cancel) = background().with_cancel();
    let inside = context.clone();
    // The function's runtime has ended when the context is canceled: it is dropped uncalled.
    gorun::run(move || {
        let panics = DropPanics;
        inside.after_func(move || unreachable!("{panics}"));
    });
    assert_told_of_a_cancel(&context, cancel);
}
