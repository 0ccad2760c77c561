//! Timers whose channel is asked for late, or never: nobody can tell that they were only a time before. And futures that
//! got a value and are dropped when it is stale.

use gorun::chan::{RecvTimeoutError, TryRecvError};
use gorun::runtime::Builder;
use gorun::time::{Duration, Instant, Ticker, Timer, sleep_until};
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);
const WATCHDOG: Duration = Duration::from_secs(60);

fn on_one_worker<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    Builder::new().workers(1).build().unwrap().run(body)
}

/// Until all timers of this (only) worker that are due by now have fired.
fn until_fired() {
    sleep_until(Instant::now() + SHORT);
}

#[test]
fn a_value_that_was_due_is_there_when_the_channel_is_asked_for() {
    let check = || {
        let start = Instant::now();
        let timer = Timer::new(SHORT);
        sleep_until(start + 2 * SHORT);
        let at = timer.channel().try_recv().unwrap();
        assert!((start + SHORT..Instant::now()).contains(&at));
        assert_eq!(timer.channel().try_recv(), Err(TryRecvError::Empty), "a single event");
        assert!(!timer.stop(), "received");
        assert!(!timer.reset(LONG));
        assert!(timer.stop());
    };
    check();
    on_one_worker(check);
}

#[test]
fn a_time_that_has_not_come_comes() {
    let timer = Timer::at(Instant::now());
    let start = Instant::now();
    assert!(timer.reset(SHORT));
    assert!(timer.channel().recv_timeout(WATCHDOG).unwrap() >= start + SHORT);
}

/// As with a channel that was there: what was sent and not received counts as not fired.
#[test]
fn without_a_channel_nothing_is_received_and_nothing_fires() {
    let timer = Timer::new(Duration::ZERO);
    sleep_until(Instant::now() + SHORT);
    assert!(timer.stop());
    assert!(!timer.stop());
    assert!(!timer.reset(Duration::ZERO), "stopped");
    sleep_until(Instant::now() + SHORT);
    assert!(timer.reset(LONG), "fired, but not received");
    assert_eq!(timer.channel().try_recv(), Err(TryRecvError::Empty));
    assert!(timer.stop());
}

#[test]
fn a_stopped_timer_has_a_silent_channel() {
    let timer = Timer::new(Duration::ZERO);
    assert!(timer.stop());
    assert_eq!(timer.channel().recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    assert!(!timer.reset(Duration::ZERO));
    assert!(timer.channel().recv_timeout(WATCHDOG).is_ok());
}

/// It belongs to the runtime that it was made in, wherever the channel is asked for.
#[test]
fn it_has_ended_with_its_runtime() {
    let (late, due) = on_one_worker(|| {
        let timers = (Timer::new(LONG), Timer::new(Duration::ZERO));
        until_fired();
        timers
    });
    assert!(late.channel().recv().is_err(), "closed");
    assert!(due.channel().recv().is_ok(), "its time had come before");
    assert!(!late.reset(Duration::ZERO));
}

/// Stop races the making of the channel: if it says that it stopped the timer, no value comes.
#[test]
fn a_stop_and_the_first_look_at_the_channel_race() {
    let meet = Arc::new(Barrier::new(2));
    for _ in 0..2000 {
        let timer = Arc::new(Timer::new(Duration::ZERO));
        let looker = {
            let (timer, meet) = (timer.clone(), meet.clone());
            std::thread::spawn(move || {
                meet.wait();
                timer.channel().try_recv().is_ok()
            })
        };
        meet.wait();
        let stopped = timer.stop();
        let received = looker.join().unwrap();
        assert_ne!(stopped, received);
        assert_eq!(timer.channel().try_recv(), Err(TryRecvError::Empty));
        assert!(!timer.stop());
    }
}

/// "Any receive from t.C after Stop has returned is guaranteed to block rather than receive any stale time value", though
/// a future had the value when the timer was stopped, and brings it back.
#[test]
fn what_a_dropped_future_had_is_gone_after_a_stop() {
    on_one_worker(|| {
        let timer = Timer::new(SHORT);
        let channel = timer.channel().clone();
        let context = &mut Context::from_waker(Waker::noop());
        {
            let mut future = pin!(channel.recv_async());
            assert!(future.as_mut().poll(context).is_pending());
            sleep_until(Instant::now() + 2 * SHORT);
            assert!(!timer.stop(), "the future has it");
        }
        assert_eq!(channel.try_recv(), Err(TryRecvError::Empty), "stale");
        // And after a reset: the value of before is gone, the new one is there, also by way of a future.
        assert!(!timer.reset(SHORT));
        {
            let mut future = pin!(channel.recv_async());
            assert!(future.as_mut().poll(context).is_pending());
            sleep_until(Instant::now() + 2 * SHORT);
            let before = Instant::now();
            assert!(!timer.reset(SHORT));
            {
                let mut second = pin!(channel.recv_async());
                assert!(second.as_mut().poll(context).is_pending());
                sleep_until(Instant::now() + 2 * SHORT);
            }
            let Poll::Ready(Ok(stale)) = future.as_mut().poll(context) else { panic!("it had got a value") };
            assert!(stale < before);
            assert!(channel.try_recv().unwrap() >= before + SHORT, "the new one came back");
        }
    });
}

#[test]
fn what_a_dropped_future_had_comes_back_while_nobody_stops() {
    on_one_worker(|| {
        let ticker = Ticker::new(LONG);
        ticker.reset(SHORT);
        {
            let mut future = pin!(ticker.channel().recv_async());
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            sleep_until(Instant::now() + 2 * SHORT);
        }
        assert!(ticker.channel().try_recv().is_ok());
    });
}
