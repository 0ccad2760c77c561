//! Scaling curves, one shot a process: see gorun/src/curve.rs.

use crate::report::{self, Row};
use crate::{on, parked};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};

pub fn run(rt: &Runtime, row: Row<'_>) {
    let n = report::size();
    match row.workload {
        "curve_goroutines" => {
            let (took, bytes) = on(rt, parked(n));
            row.once("bytes", bytes, n);
            row.once("ns", took.as_nanos() as f64, n);
        }
        "curve_timers" => {
            let (started, stopped, bytes) = on(rt, timers(n));
            let row = row.note("sleeps polled once, then dropped");
            row.once("bytes", bytes, n);
            row.once("ns", started.as_nanos() as f64, n);
            row.once("stop_ns", stopped.as_nanos() as f64, n);
        }
        "curve_waiters" => {
            let row = row.note("waiters on a Notify: tokio's channels have one receiver");
            row.once("ns", on(rt, waiters(n)).as_nanos() as f64, n);
        }
        "curve_select" => {
            let turns = report::select_turns(n);
            let took = on(rt, selects(n, turns)).as_nanos() as f64 / turns as f64;
            row.note("poll_recv of each; capacity 1").emit("ns", &[took], n, "");
        }
        name => report::unknown(name),
    }
}

async fn timers(n: usize) -> (Duration, Duration, f64) {
    let before = report::rss_bytes();
    let mut all = Vec::with_capacity(n);
    let begin = Instant::now();
    for i in 0..n {
        let time = Duration::from_secs(3600) + Duration::from_micros(report::scatter(i));
        let mut sleep = Box::pin(tokio::time::sleep(time));
        poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_pending())).await;
        all.push(sleep);
    }
    let started = begin.elapsed();
    let bytes = report::rss_bytes() - before;
    let begin = Instant::now();
    drop(all);
    (started, begin.elapsed(), bytes)
}

async fn waiters(n: usize) -> Duration {
    let shared = Arc::new((AtomicUsize::new(0), Notify::new()));
    let (done, mut ended) = mpsc::channel::<()>(1);
    for _ in 0..n {
        let (shared, done) = (shared.clone(), done.clone());
        tokio::spawn(async move {
            let mut woken = pin!(shared.1.notified());
            woken.as_mut().enable(); // in the queue, then counted
            shared.0.fetch_add(1, Ordering::Relaxed);
            woken.await;
            drop(done);
        });
    }
    drop(done);
    while shared.0.load(Ordering::Relaxed) < n {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begin = Instant::now();
    for _ in 0..n {
        shared.1.notify_one();
    }
    assert!(ended.recv().await.is_none());
    begin.elapsed()
}

/// A select of any size: every receiver is polled, as `tokio::select!` does with its branches.
async fn selects(arms: usize, turns: usize) -> Duration {
    let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..arms).map(|_| mpsc::channel::<usize>(1)).unzip();
    let (answer, mut answers) = mpsc::channel::<usize>(1);
    tokio::spawn(async move {
        for turn in 0..turns {
            let value = poll_fn(|cx| {
                for i in 0..arms {
                    if let Poll::Ready(value) = receivers[(turn + i) % arms].poll_recv(cx) {
                        return Poll::Ready(value);
                    }
                }
                Poll::Pending
            });
            answer.send(value.await.unwrap()).await.unwrap();
        }
    });
    let begin = Instant::now();
    for i in 0..turns {
        senders[i % arms].send(i).await.unwrap();
        answers.recv().await.unwrap();
    }
    begin.elapsed()
}
