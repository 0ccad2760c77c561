//! Timers and contexts as arms of a select, for those who watch, and from futures.

use gorun::context::background;
use gorun::runtime::Builder;
use gorun::select::Select;
use gorun::time::{Duration, Instant, Ticker, Timer, after, tick};
use gorun::{channel, never, select};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

fn both(check: impl Fn() + Send + Sync) {
    check();
    Builder::new().workers(2).build().unwrap().run(check);
}

/// `After` in Go's documentation: the arm of a select that gives up.
#[test]
fn after_is_an_arm() {
    both(|| {
        let silent = never::<u8>();
        let start = Instant::now();
        let taken = select! {
            recv(silent) -> _ => "value",
            recv(after(SHORT)) -> at => { at.unwrap(); "timeout" }
        };
        assert_eq!(taken, "timeout");
        assert!(start.elapsed() >= SHORT);
        let (tx, rx) = channel(1);
        tx.send(1u8).unwrap();
        let taken = select! {
            recv(rx) -> value => value.unwrap(),
            recv(after(LONG)) -> _ => 0,
        };
        assert_eq!(taken, 1);
    });
}

#[test]
fn a_context_is_an_arm() {
    both(|| {
        let (ctx, cancel) = background().with_cancel();
        let worker = gorun::go(move || {
            let (ticks, mut seen) = (tick(SHORT), 0);
            loop {
                select! {
                    recv(ticks) -> _ => seen += 1,
                    recv(ctx.done()) -> closed => {
                        assert!(closed.is_err());
                        return seen;
                    }
                }
            }
        });
        cancel.cancel();
        worker.join().unwrap();
        let (ctx, _cancel) = background().with_timeout(SHORT);
        select! {
            recv(ctx.done()) -> _ => assert!(ctx.err().is_some()),
            recv(background().done()) -> _ => unreachable!(),
            recv(after(LONG)) -> _ => unreachable!(),
        }
    });
}

/// A watcher is told of a value, and does not take it.
#[test]
fn who_watches_a_timer_is_told() {
    both(|| {
        let (timer, ticker) = (Timer::new(LONG), Ticker::new(SHORT));
        let mut select = Select::new();
        let first = select.recv(timer.channel());
        let second = select.recv(ticker.channel());
        assert_eq!(select.ready(), second);
        ticker.stop();
        timer.reset(SHORT);
        assert_eq!(select.ready(), first);
        assert!(timer.channel().try_recv().is_ok() && ticker.channel().try_recv().is_err());
    });
}

/// The timers of many selects whose other arm is taken: each goes with its receiver.
#[test]
fn untaken_timers_go_with_their_select() {
    Builder::new().workers(2).build().unwrap().run(|| {
        let (tx, rx) = channel(0);
        let sender = gorun::go(move || (0..20_000).try_for_each(|n| tx.send(n)));
        let mut sum = 0u64;
        loop {
            select! {
                recv(rx) -> value => match value {
                    Ok(n) => sum += n,
                    Err(_) => break,
                },
                recv(after(LONG)) -> _ => unreachable!(),
            }
        }
        sender.join().unwrap().unwrap();
        assert_eq!(sum, 199_990_000);
    });
}

#[test]
fn futures_wait_for_timers() {
    let receiver = after(SHORT);
    let start = Instant::now();
    assert!(futures_lite::future::block_on(receiver.recv_async()).unwrap() >= start);
    let (ctx, _cancel) = background().with_timeout(SHORT);
    assert!(futures_lite::future::block_on(ctx.done().recv_async()).is_err());
}

/// A waker is a user's code, and runs on the worker that fires the timer: its panic harms nobody.
#[test]
fn a_waker_that_panics_harms_nobody() {
    struct Panics(AtomicUsize);
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::panic::panic_any("on purpose");
        }
    }
    let panics = Arc::new(Panics(AtomicUsize::new(0)));
    let waker = Waker::from(panics.clone());
    Builder::new().workers(1).build().unwrap().run(|| {
        let receiver = after(SHORT);
        let mut future = pin!(receiver.recv_async());
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        // On the only worker, after that timer.
        gorun::time::sleep(2 * SHORT);
        assert_eq!(panics.0.load(Ordering::Relaxed), 1);
        assert!(matches!(future.poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(_))));
    });
}
