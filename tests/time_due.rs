//! A timer's channel is ready once its time has passed, also for those who do not wait, whoever fires it.

mod common;

use gorun::chan::TryRecvError;
use gorun::select;
use gorun::select::Select;
use gorun::time::{Duration, Instant, Ticker, Timer, after, sleep, tick};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(1);

/// From a plain thread, and from a goroutine on a runtime with one worker, which fires nothing while it runs us.
fn both(check: impl Fn() + Send + Sync) {
    check();
    common::on_one_worker(check);
}

fn spin(until: Instant) {
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[test]
fn a_select_that_does_not_wait_finds_a_due_timer() {
    both(|| {
        for _ in 0..1000 {
            select! {
                recv(after(Duration::ZERO)) -> at => assert!(at.is_ok()),
                default => panic!("it is due"),
            }
        }
    });
}

#[test]
fn a_receive_that_does_not_wait_finds_a_due_timer() {
    both(|| {
        let timer = Timer::new(LONG);
        assert_eq!(timer.channel().try_recv(), Err(TryRecvError::Empty));
        for _ in 0..100 {
            timer.reset(Duration::ZERO);
            assert!(timer.channel().try_recv().is_ok());
            assert_eq!(timer.channel().try_recv(), Err(TryRecvError::Empty), "once");
            timer.reset(Duration::ZERO);
            assert!(timer.channel().recv_timeout(Duration::ZERO).is_ok());
            timer.reset(Duration::ZERO);
            assert_eq!(timer.channel().try_iter().count(), 1);
        }
        let at = after(SHORT);
        let start = Instant::now();
        spin(start + SHORT);
        assert!(at.try_recv().is_ok());
    });
}

#[test]
fn a_future_finds_a_due_timer_when_it_is_polled() {
    both(|| {
        let at = after(Duration::ZERO);
        let polled = pin!(at.recv_async()).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(_))), "{polled:?}");
    });
}

#[test]
fn a_set_of_operations_finds_a_due_timer() {
    both(|| {
        let (late, due) = (after(LONG), after(Duration::ZERO));
        let mut select = Select::new();
        select.recv(&late);
        let index = select.recv(&due);
        assert_eq!(select.try_ready(), Ok(index));
        assert_eq!(select.ready(), index);
        let chosen = select.try_select().unwrap();
        assert_eq!(chosen.index(), index);
        assert!(chosen.recv(&due).is_ok());
        assert!(select.try_ready().is_err());
        assert!(select.try_select().is_err());
    });
}

/// Of two timers that are due, and of a timer and a channel, each is chosen as often.
#[test]
fn a_due_timer_is_as_likely_as_others() {
    both(|| {
        let (tx, rx) = gorun::channel(1);
        let (mut one, mut channel) = (0, 0);
        for _ in 0..400 {
            let (a, b) = (after(Duration::ZERO), after(Duration::ZERO));
            select! {
                recv(a) -> _ => one += 1,
                recv(b) -> _ => {},
            }
            let a = after(Duration::ZERO);
            let _full = tx.try_send(());
            select! {
                recv(a) -> _ => {},
                recv(rx) -> _ => channel += 1,
            }
        }
        assert!((100..300).contains(&one), "{one} of 400");
        assert!((100..300).contains(&channel), "{channel} of 400");
    });
}

/// Beside work that never ends a ticker that is looked at has its ticks.
#[test]
fn a_ticker_that_is_polled_is_in_time() {
    both(|| {
        let ticks = tick(SHORT);
        for _ in 0..20 {
            assert!(ticks.recv().is_ok());
            spin(Instant::now() + 2 * SHORT);
            assert!(ticks.try_recv().is_ok());
            let (tx, rx) = gorun::channel(1);
            spin(Instant::now() + 2 * SHORT);
            for turn in 0.. {
                let _full = tx.try_send(());
                assert!(turn < 1000, "the tick is due");
                select! {
                    recv(ticks) -> _ => break,
                    recv(rx) -> _ => {},
                }
            }
        }
    });
}

/// A value that another one waits for goes to that one, and a tick is received once.
#[test]
fn those_who_wait_come_first() {
    common::on_one_worker(|| {
        let timer = Timer::new(LONG);
        let at = timer.channel().clone();
        let waits = gorun::go(move || at.recv().is_ok());
        common::others_wait();
        timer.reset(Duration::ZERO);
        assert_eq!(timer.channel().try_recv(), Err(TryRecvError::Empty));
        assert!(waits.join().unwrap());
    });
}

/// Go 1.23: "The timer channel associated with a Timer or Ticker is now unbuffered, with capacity 0."
#[test]
fn a_timers_channel_has_no_capacity() {
    both(|| {
        let (timer, ticker, at) = (Timer::new(Duration::ZERO), Ticker::new(SHORT), after(Duration::ZERO));
        sleep(5 * SHORT);
        for channel in [timer.channel(), ticker.channel(), &at] {
            assert_eq!((channel.capacity(), channel.len()), (0, 0));
            assert!(channel.is_empty() && channel.is_full());
            assert!(channel.try_recv().is_ok());
        }
    });
}

/// A stop and a reset take back what is due and was not received.
#[test]
fn a_due_value_is_taken_back() {
    both(|| {
        let timer = Timer::new(LONG);
        let channel = timer.channel();
        for _ in 0..100 {
            timer.reset(Duration::ZERO);
            assert!(timer.stop(), "it was not received");
            assert_eq!(channel.try_recv(), Err(TryRecvError::Empty));
            timer.reset(Duration::ZERO);
            assert!(timer.reset(LONG));
            assert_eq!(channel.try_recv(), Err(TryRecvError::Empty));
            timer.reset(Duration::ZERO);
            assert!(channel.try_recv().is_ok());
            assert!(!timer.stop());
        }
    });
}
