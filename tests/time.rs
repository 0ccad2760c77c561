//! Sleeping, timers, tickers: what Go's package `time` documents (as of Go 1.23), and what Rust adds.
//!
//! On one worker timers fire in the order of their times, so "it has fired" is made sure by sleeping until a later
//! time: see [`until_fired`].

use gorun::chan::{Receiver, RecvTimeoutError, TryRecvError};
use gorun::runtime::Builder;
use gorun::time::{Duration, Instant, Ticker, Timer, after, after_func, sleep, sleep_until, tick};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);
const WATCHDOG: Duration = Duration::from_secs(60);

/// Runs `body` on a runtime with one worker.
fn on_one_worker<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    Builder::new().workers(1).build().unwrap().run(body)
}

/// Until all timers of this (only) worker that are due by now have fired.
fn until_fired() {
    sleep_until(Instant::now() + SHORT);
}

/// A timer whose channel has been asked for. (Before that it is only a time, see `time_late_channel.rs`.)
fn timer(duration: Duration) -> Timer {
    let timer = Timer::new(duration);
    let _channel = timer.channel();
    timer
}

fn received(receiver: &Receiver<Instant>) -> Instant {
    receiver.recv_timeout(WATCHDOG).unwrap()
}

// Sleep

/// Go, `time.Sleep`: "pauses the current goroutine for at least the duration d".
#[test]
fn sleep_takes_at_least_as_long() {
    let check = || {
        let start = Instant::now();
        sleep(SHORT);
        assert!(start.elapsed() >= SHORT);
    };
    check();
    gorun::go(check).join().unwrap();
}

/// Go, `time.Sleep`: "A negative or zero duration causes Sleep to return immediately."
#[test]
fn sleeping_for_no_time_returns() {
    sleep(Duration::ZERO);
    gorun::go(|| sleep(Duration::ZERO)).join().unwrap();
    gorun::go(|| sleep_until(Instant::now())).join().unwrap();
}

#[test]
fn an_abort_ends_a_sleep() {
    let sleeper = gorun::go(|| sleep(Duration::MAX));
    sleeper.abort();
    assert!(sleeper.join().unwrap_err().is_aborted());
}

// Timer

/// Go, `time.NewTimer`: "creates a new Timer that will send the current time on its channel after at least duration d".
#[test]
fn a_timer_sends_the_current_time() {
    let check = || {
        let start = Instant::now();
        let timer = Timer::new(SHORT);
        let at = received(timer.channel());
        assert!(at >= start + SHORT);
        assert!(at <= Instant::now());
        assert_eq!(timer.channel().try_recv(), Err(TryRecvError::Empty), "a single event");
    };
    check();
    gorun::go(check).join().unwrap();
}

#[test]
fn a_timer_whose_time_has_passed_fires() {
    let past = Instant::now();
    assert!(received(Timer::at(past).channel()) >= past);
    received(&after(Duration::ZERO));
}

#[test]
fn a_timer_beyond_the_clock_is_pending() {
    let timer = timer(Duration::MAX);
    assert!(timer.reset(Duration::MAX));
    assert!(timer.stop());
}

/// Go, `time.Timer.Stop`: "returns true if the call stops the timer, false if the timer has already expired or been stopped".
#[test]
fn stop_tells_whether_it_stopped() {
    let long = timer(LONG);
    assert!(long.stop());
    assert!(!long.stop());
    let timer = timer(Duration::ZERO);
    received(timer.channel());
    assert!(!timer.stop());
}

/// Go, `time.Timer.Stop`: "any receive from t.C after Stop has returned is guaranteed to block rather than receive a stale time
/// value from before the Stop; if the program has not received from t.C already and the timer is running, Stop is
/// guaranteed to return true."
#[test]
fn nothing_stale_is_received_after_stop() {
    on_one_worker(|| {
        let timer = timer(Duration::ZERO);
        until_fired();
        assert!(timer.stop(), "fired, but not received");
        assert_eq!(timer.channel().try_recv(), Err(TryRecvError::Empty));
        assert!(!timer.stop());
    });
}

/// Go, `time.Timer.Stop`, as here: the channel stays open, as a `Ticker`'s does.
#[test]
fn stop_does_not_close_the_channel() {
    let timer = timer(LONG);
    timer.stop();
    assert_eq!(timer.channel().recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
}

/// Go, `time.Timer.Reset`: "changes the timer to expire after duration d. It returns true if the timer had been active, false if
/// the timer had expired or been stopped."
#[test]
fn reset_tells_whether_it_was_active() {
    let timer = timer(LONG);
    assert!(timer.reset(Duration::ZERO));
    received(timer.channel());
    assert!(!timer.reset(LONG), "expired");
    assert!(timer.stop());
    assert!(!timer.reset(Duration::ZERO), "stopped");
    received(timer.channel());
}

/// Go, `time.Timer.Reset`: "any receive from t.C after Reset has returned is guaranteed not to receive a time value corresponding
/// to the previous timer settings; if the program has not received from t.C already and the timer is running, Reset is
/// guaranteed to return true."
#[test]
fn nothing_stale_is_received_after_reset() {
    on_one_worker(|| {
        let timer = timer(Duration::ZERO);
        until_fired();
        assert!(timer.reset(LONG), "fired, but not received");
        assert_eq!(timer.channel().try_recv(), Err(TryRecvError::Empty));
        let before = Instant::now();
        assert!(timer.reset(SHORT));
        assert!(received(timer.channel()) >= before + SHORT);
    });
}

/// Go, `time.After`: "waits for the duration to elapse and then sends the current time on the returned channel".
#[test]
fn after_sends_the_current_time() {
    let start = Instant::now();
    assert!(received(&after(SHORT)) >= start + SHORT);
}

/// A clone of the channel keeps the timer going without its handle.
#[test]
fn a_timer_without_handle_fires_while_its_channel_is_held() {
    let channel = Timer::new(SHORT).channel().clone();
    received(&channel);
}

#[test]
fn who_waits_for_a_timer_can_be_aborted() {
    on_one_worker(|| {
        let timer = Arc::new(Timer::new(LONG));
        let waiting = gorun::go({
            let timer = timer.clone();
            move || timer.channel().recv()
        });
        gorun::yield_now();
        waiting.abort();
        assert!(waiting.join().unwrap_err().is_aborted());
        assert!(timer.reset(SHORT));
        received(timer.channel());
    });
}

// AfterFunc

/// Go, `time.AfterFunc`: "waits for the duration to elapse and then calls f in its own goroutine".
#[test]
fn a_function_is_called_in_its_own_goroutine() {
    let (tx, rx) = gorun::channel(1);
    let start = Instant::now();
    after_func(SHORT, move || tx.send((Instant::now(), gorun::current().map(|g| g.id()))).unwrap());
    let (at, id) = rx.recv().unwrap();
    assert!(at >= start + SHORT);
    assert!(id.is_some_and(|id| id != gorun::id()));
}

/// Go, `time.AfterFunc`: "returns a Timer that can be used to cancel the call using its Stop method".
#[test]
fn a_stopped_function_is_not_called() {
    on_one_worker(|| {
        let calls = Arc::new(AtomicUsize::new(0));
        let timer = after_func(SHORT, {
            let calls = calls.clone();
            move || _ = calls.fetch_add(1, Ordering::Relaxed)
        });
        assert!(timer.stop());
        sleep(2 * SHORT);
        gorun::yield_now();
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    });
}

/// Go, `time.AfterFunc`: "The returned Timer's C field is not used and will be nil."
#[test]
fn the_channel_of_a_function_is_silent() {
    let timer = after_func(Duration::ZERO, || ());
    assert_eq!(timer.channel().recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    assert!(timer.channel().same_channel(timer.channel()));
}

/// Go, `time.Timer.Stop`: "if t.Stop returns false, then the timer has already expired and the function f has been started in its
/// own goroutine; Stop does not wait for f to complete before returning".
#[test]
fn stop_does_not_wait_for_the_function() {
    let (started, has_started) = gorun::channel(0);
    let (tx, rx) = gorun::channel::<()>(0);
    let timer = after_func(Duration::ZERO, move || {
        started.send(()).unwrap();
        rx.recv().unwrap();
    });
    has_started.recv().unwrap();
    assert!(!timer.stop());
    tx.send(()).unwrap();
}

/// Go, `time.Timer.Reset`: "For a func-based timer ... Reset either reschedules when f will run, in which case Reset returns true,
/// or schedules f to run again, in which case it returns false."
#[test]
fn reset_puts_off_the_function_or_calls_it_again() {
    let (tx, rx) = gorun::channel(4);
    let timer = after_func(LONG, move || tx.send(()).unwrap());
    assert!(timer.reset(Duration::ZERO));
    rx.recv().unwrap();
    assert!(!timer.reset(Duration::ZERO));
    rx.recv().unwrap();
    assert!(!timer.reset(LONG));
    assert!(timer.stop());
    assert!(rx.is_empty());
}

/// Go, `time.Timer.Reset`: "neither waits for the prior f to complete before returning nor does it guarantee that the subsequent
/// goroutine running f does not run concurrently with the prior one".
#[test]
fn two_calls_of_one_function_may_run_at_once() {
    let (meet, met) = gorun::channel(0);
    let (tx, rx) = gorun::channel::<()>(0);
    let timer = after_func(Duration::ZERO, move || {
        meet.send(()).unwrap();
        let _closed = rx.recv();
    });
    met.recv().unwrap();
    timer.reset(Duration::ZERO);
    met.recv().unwrap();
    drop(tx);
}

/// Go ends the process; here a panic ends its goroutine, and the timer can be set again.
#[test]
fn a_panic_in_the_function_ends_its_goroutine() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = gorun::channel(2);
    let timer = after_func(Duration::ZERO, move || {
        tx.send(()).unwrap();
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            panic!("on purpose");
        }
    });
    rx.recv().unwrap();
    timer.reset(Duration::ZERO);
    rx.recv().unwrap();
}

#[test]
fn the_function_of_a_dropped_timer_is_called() {
    let (tx, rx) = gorun::channel(1);
    drop(after_func(SHORT, move || tx.send(()).unwrap()));
    rx.recv_timeout(WATCHDOG).unwrap();
}

// Ticker

/// Go, `time.NewTicker`: "returns a new Ticker containing a channel that will send the current time on the channel after each
/// tick". `Ticker`: the k-th is not before k periods.
#[test]
fn ticks_come_at_their_times() {
    let check = || {
        let start = Instant::now();
        let ticker = Ticker::new(SHORT);
        for k in 1..=5 {
            assert!(received(ticker.channel()) >= start + k * SHORT);
        }
    };
    check();
    gorun::go(check).join().unwrap();
}

/// Go, `time.NewTicker`: "The ticker will adjust the time interval or drop ticks to make up for slow receivers."
#[test]
fn a_slow_receiver_misses_ticks() {
    on_one_worker(|| {
        let ticker = Ticker::new(SHORT);
        sleep(20 * SHORT);
        received(ticker.channel());
        assert_eq!(ticker.channel().try_recv(), Err(TryRecvError::Empty), "there was one, not twenty");
        received(ticker.channel());
    });
}

/// Go, `time.NewTicker`: "The duration d must be greater than zero; if not, NewTicker will panic." `Ticker.Reset`: "The
/// duration d must be greater than zero; if not, Reset will panic."
#[test]
fn a_ticker_wants_a_period() {
    assert!(std::panic::catch_unwind(|| Ticker::new(Duration::ZERO)).is_err());
    let ticker = Ticker::new(LONG);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ticker.reset(Duration::ZERO))).is_err());
}

/// Go, `time.Ticker.Stop`: "Stop turns off a ticker. After Stop, no more ticks will be sent. Stop does not close the
/// channel, to permit calling Ticker.Reset".
#[test]
fn a_stopped_ticker_is_silent_and_open() {
    on_one_worker(|| {
        let ticker = Ticker::new(SHORT);
        sleep(2 * SHORT);
        ticker.stop();
        assert_eq!(ticker.channel().recv_timeout(5 * SHORT), Err(RecvTimeoutError::Timeout));
        ticker.reset(SHORT);
        received(ticker.channel());
    });
}

/// Go, `time.Ticker.Reset`: "stops a ticker and resets its period to the specified duration. The next tick will arrive after the
/// new period elapses."
#[test]
fn a_reset_ticker_begins_anew() {
    let ticker = Ticker::new(LONG);
    let start = Instant::now();
    ticker.reset(SHORT);
    assert!(received(ticker.channel()) >= start + SHORT);
    assert!(received(ticker.channel()) >= start + 2 * SHORT);
    ticker.reset(LONG);
    assert_eq!(ticker.channel().recv_timeout(5 * SHORT), Err(RecvTimeoutError::Timeout));
}

/// Go, `time.Tick`: "Unlike NewTicker, Tick will return nil if d <= 0."
#[test]
fn tick_without_a_period_is_silent() {
    assert_eq!(tick(Duration::ZERO).recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    let ticks = tick(SHORT);
    received(&ticks);
    received(&ticks);
}

// Many of them, and races

#[test]
fn a_million_timers_are_started_and_stopped() {
    const N: usize = 1_000_000;
    on_one_worker(|| {
        let mut timers: Vec<_> = (0..N as u64).map(|n| timer(LONG + Duration::from_nanos(n * 7919 % 10_007))).collect();
        let again = timers.iter().step_by(3).filter(|t| t.reset(2 * LONG)).count();
        assert_eq!(again, N.div_ceil(3));
        // From the middle, from the front, and the rest by dropping them.
        let stopped = timers.iter().skip(N / 3).step_by(2).filter(|t| t.stop()).count();
        assert_eq!(stopped, (N - N / 3).div_ceil(2));
        timers.drain(..N / 2);
        assert_eq!(timers.iter().filter(|t| t.stop()).count(), N / 4);
    });
}

#[test]
fn all_of_many_timers_fire_once() {
    const N: usize = 20_000;
    let calls = Arc::new(AtomicUsize::new(0));
    let group = gorun::sync::WaitGroup::new();
    let times = gorun::run(|| {
        group.add(N);
        let timers: Vec<_> = (0..N as u64).map(|n| timer(Duration::from_micros(n * 31 % 5000))).collect();
        for n in 0..N as u64 {
            let (calls, group) = (calls.clone(), group.clone());
            after_func(Duration::from_micros(n * 17 % 5000), move || {
                calls.fetch_add(1, Ordering::Relaxed);
                group.done();
            });
        }
        group.wait();
        timers.iter().for_each(|t| _ = received(t.channel()));
        timers.iter().filter(|t| t.channel().is_empty() && !t.stop()).count()
    });
    assert_eq!((calls.load(Ordering::Relaxed), times), (N, N));
}

/// Stop races fire: either the function is called or the stop says that it stopped it.
#[test]
fn a_function_is_either_stopped_or_called() {
    const N: usize = 4000;
    let called = Arc::new(AtomicUsize::new(0));
    let stopped = gorun::run(|| {
        let pairs: Vec<_> = (0..N)
            .map(|n| {
                let called = called.clone();
                let delay = Duration::from_micros(n as u64 % 50);
                let timer = after_func(delay, move || _ = called.fetch_add(1, Ordering::Relaxed));
                gorun::go(move || {
                    sleep(delay);
                    timer.stop()
                })
            })
            .collect();
        let stopped = pairs.into_iter().map(|p| p.join().unwrap()).filter(|s| *s).count();
        // All that are to be called have been started; on their way out they are joined by the end of the run, which
        // aborts those that have not begun: let them.
        while called.load(Ordering::Relaxed) + stopped < N {
            gorun::yield_now();
        }
        stopped
    });
    assert_eq!(called.load(Ordering::Relaxed) + stopped, N);
}

/// Reset and stop race fire: no value of before comes through.
#[test]
fn no_stale_value_survives_a_race() {
    let timer = Arc::new(timer(Duration::ZERO));
    let racers: Vec<_> = (0..4)
        .map(|n| {
            let timer = timer.clone();
            let race = move || {
                for i in 0..2000u64 {
                    timer.reset(Duration::from_nanos(i % 60_000));
                    if i % 3 == n {
                        timer.stop();
                    }
                    if i % 7 == 0 {
                        let _stolen = timer.channel().try_recv();
                    }
                }
            };
            if n % 2 == 0 { Ok(gorun::go(race)) } else { Err(std::thread::spawn(race)) }
        })
        .collect();
    for racer in racers {
        match racer {
            Ok(goroutine) => goroutine.join().unwrap(),
            Err(thread) => thread.join().unwrap(),
        }
    }
    let before = Instant::now();
    timer.reset(SHORT);
    assert!(received(timer.channel()) >= before + SHORT, "a value of before");
    assert!(!timer.stop());
}

/// Drop races fire: the last receiver goes while the timer fires.
#[test]
fn receivers_are_dropped_while_timers_fire() {
    gorun::run(|| {
        let all: Vec<_> = (0..4000u64)
            .map(|n| {
                gorun::go(move || {
                    let delay = Duration::from_micros(n % 40);
                    let receiver = after(delay);
                    sleep(delay);
                    drop(receiver);
                })
            })
            .collect();
        all.into_iter().for_each(|g| g.join().unwrap());
    });
}

// Threads and runtimes

/// A worker that will wake for a timer is not woken for a later one, but for an earlier one it is.
#[test]
fn an_earlier_timer_wakes_a_sleeping_worker() {
    let later = timer(LONG);
    for _ in 0..20 {
        let (even_later, earlier) = (timer(2 * LONG), timer(SHORT));
        received(earlier.channel());
        assert!(even_later.stop());
    }
    assert!(later.stop());
}

/// A plain thread sets a timer on a worker that sleeps for longer.
#[test]
fn a_thread_wakes_a_sleeping_worker_for_its_timer() {
    for _ in 0..50 {
        let timers: Vec<_> = (0..8).map(|_| timer(SHORT)).collect();
        timers.iter().for_each(|t| _ = received(t.channel()));
        // Now the workers sleep, for ever or for LONG.
        let long = timer(LONG);
        let (tx, rx) = gorun::channel(1);
        after_func(SHORT, move || tx.send(()).unwrap());
        rx.recv_timeout(WATCHDOG).unwrap();
        assert!(long.stop());
    }
}

/// A worker was stuck, another was brought in for it, and one of the two has retired. The timers of its seat are set by a
/// thread that is none of them, while nobody is awake.
#[test]
fn a_seat_that_was_left_keeps_its_timers() {
    let runtime = Builder::new().workers(1).build().unwrap();
    let new_timer = || runtime.go(|| timer(LONG)).unwrap().join().unwrap();
    let on_first = new_timer();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let stuck = runtime.go(move || {
        begun.send(()).unwrap();
        may_go_on.recv().unwrap();
    });
    has_begun.recv().unwrap();
    let on_second = new_timer();
    go_on.send(()).unwrap();
    stuck.unwrap().join().unwrap();
    for _ in 0..20 {
        for timer in [&on_first, &on_second] {
            timer.reset(SHORT);
            received(timer.channel());
        }
    }
}

/// The timers of a worker that is held up are fired by another.
#[test]
fn a_busy_worker_does_not_hold_up_its_timers() {
    let runtime = Builder::new().workers(2).build().unwrap();
    runtime.run(|| {
        let timer = Timer::new(SHORT);
        // Blocks the thread, not only the goroutine, until another worker has fired it.
        let (tx, rx) = std::sync::mpsc::channel();
        let channel = timer.channel().clone();
        gorun::go(move || tx.send(channel.recv_timeout(WATCHDOG)).unwrap());
        assert!(rx.recv_timeout(WATCHDOG).unwrap().is_ok());
    });
}

/// Nothing that was pending when its runtime ended happens later; nobody waits for it in vain, and nothing leaks.
#[test]
fn timers_end_with_their_runtime() {
    let alive = Arc::new(());
    let (timer, ticker, func) = on_one_worker(|| {
        let alive = alive.clone();
        let never = after_func(LONG, move || unreachable!("{alive:?}"));
        (timer(LONG), Ticker::new(SHORT), never)
    });
    assert!(timer.channel().recv().is_err(), "closed");
    let _last_tick = ticker.channel().try_recv();
    assert!(ticker.channel().recv().is_err(), "closed");
    assert!(!func.reset(Duration::ZERO), "it was let go");
    assert!(!timer.reset(Duration::ZERO));
    assert_eq!(Arc::strong_count(&alive), 2, "the handle's");
    drop(func);
    assert_eq!(Arc::strong_count(&alive), 1);
    on_one_worker(|| {
        let alive = alive.clone();
        drop(after_func(LONG, move || unreachable!("{alive:?}")));
    });
    assert_eq!(Arc::strong_count(&alive), 1, "without a handle it goes with the runtime");
}
