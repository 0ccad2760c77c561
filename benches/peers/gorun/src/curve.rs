//! Scaling curves: what one costs when there are `n` of them. One shot a process. Other peers have the same ones.
//!
//! * `curve_goroutines`: start `n` that wait; time and resident bytes of each.
//! * `curve_timers`: start `n` timers of an hour, then stop them, in an order that is not that of their times.
//! * `curve_waiters`: wake `n` that wait to receive from one channel, by a send each.
//! * `curve_select`: a select of `n` arms that waits, and one channel that becomes ready; a round trip.

use crate::report::{self, Row};
use crate::{HOUR, on, parked};
use gorun::select::Select;
use gorun::sync::WaitGroup;
use gorun::time::{Instant, Timer};
use gorun::{channel, go, yield_now};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub fn run(row: Row<'_>) {
    let n = report::size();
    match row.workload {
        "curve_goroutines" => {
            let (took, bytes) = on(move || parked(n));
            row.once("bytes", bytes, n);
            row.once("ns", took.as_nanos() as f64, n);
        }
        "curve_timers" => {
            let (started, stopped, bytes) = on(move || timers(n));
            row.once("bytes", bytes, n);
            row.once("ns", started.as_nanos() as f64, n);
            row.once("stop_ns", stopped.as_nanos() as f64, n);
        }
        "curve_waiters" => row.once("ns", on(move || waiters(n)).as_nanos() as f64, n),
        "curve_select" => {
            let turns = report::select_turns(n);
            row.emit("ns", &[on(move || selects(n, turns)).as_nanos() as f64 / turns as f64], n, "");
        }
        name => report::unknown(name),
    }
}

fn timers(n: usize) -> (Duration, Duration, f64) {
    let before = report::rss_bytes();
    let mut all = Vec::with_capacity(n);
    let begin = Instant::now();
    for i in 0..n {
        let timer = Timer::new(HOUR + Duration::from_micros(report::scatter(i)));
        // Before its channel is asked for it would be a number and nothing more.
        let _channel = timer.channel();
        all.push(timer);
    }
    let started = begin.elapsed();
    let bytes = report::rss_bytes() - before;
    let begin = Instant::now();
    for timer in &all {
        timer.stop();
    }
    (started, begin.elapsed(), bytes)
}

fn waiters(n: usize) -> Duration {
    let (tx, rx) = channel::<usize>(0);
    let (started, all) = (Arc::new(AtomicUsize::new(0)), WaitGroup::new());
    all.add(n);
    for _ in 0..n {
        let (rx, started, all) = (rx.clone(), started.clone(), all.clone());
        go(move || {
            started.fetch_add(1, Ordering::Relaxed);
            rx.recv().unwrap();
            all.done();
        });
    }
    while started.load(Ordering::Relaxed) < n {
        yield_now();
    }
    gorun::time::sleep(Duration::from_millis(50));
    let begin = Instant::now();
    for i in 0..n {
        tx.send(i).unwrap();
    }
    all.wait();
    begin.elapsed()
}

fn selects(arms: usize, turns: usize) -> Duration {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..arms).map(|_| channel::<usize>(0)).unzip();
    let (answer, answers) = channel::<usize>(0);
    go(move || {
        let mut set = Select::new();
        for receiver in &receivers {
            set.recv(receiver);
        }
        for _ in 0..turns {
            let operation = set.select();
            let index = operation.index();
            answer.send(operation.recv(&receivers[index]).unwrap()).unwrap();
        }
    });
    let begin = Instant::now();
    for i in 0..turns {
        senders[i % arms].send(i).unwrap();
        answers.recv().unwrap();
    }
    begin.elapsed()
}
