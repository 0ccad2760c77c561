//! Peer benchmarks, smol's side: its executor on `procs` threads, async-channel, async-lock, async-io.
//! Usage: peer-smol NAME [procs [n]]
#[path = "../../report.rs"]
mod report;

use report::{Row, Sleeper, procs};
use smol::channel::{self, Receiver, Sender};
use smol::future::{race, yield_now};
use smol::lock::Mutex;
use smol::{Executor, Task, Timer};
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CAP1: &str = "async-channel has no capacity 0: capacity 1";

static EXECUTOR: Executor<'static> = Executor::new();

fn spawn<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> Task<T> {
    EXECUTOR.spawn(f)
}

fn main() {
    let name = report::args();
    for _ in 0..procs() {
        std::thread::spawn(|| smol::block_on(EXECUTOR.run(std::future::pending::<()>())));
    }
    let row = Row { peer: "smol", workload: &name, variant: "", note: "" };
    match name.as_str() {
        "spawn_join" => {
            row.note("tasks detached, counter + channel").per_op("ns_per_op", 1_000_000, || on(spawn_join(1_000_000)))
        }
        "spawn_join_one" => row.note("Task").per_op("ns_per_op", 200_000, || on(spawn_join_one(200_000))),
        "yield_2" => row.per_op("ns_per_op", 4_000_000, || on(yields(2, 4_000_000))),
        "yield_1000" => row.per_op("ns_per_op", 4_000_000, || on(yields(1000, 4_000_000))),
        "pingpong" => row.note(CAP1).per_op("ns_per_op", 1_000_000, || on(pingpong(1_000_000))),
        "chan_spsc" => row.per_op("ns_per_op", 5_000_000, || on(spsc(5_000_000))),
        "chan_mpmc_unbuf" => row.note(CAP1).per_op("ns_per_op", 2_000_000, || on(mpmc(1, 2_000_000))),
        "chan_mpmc_128" => row.per_op("ns_per_op", 2_000_000, || on(mpmc(128, 2_000_000))),
        "select2" => row.note("race; capacity 1").per_op("ns_per_op", 1_000_000, || on(select2(1_000_000))),
        "select8" => row.note("races of races; capacity 1").per_op("ns_per_op", 1_000_000, || on(select8(1_000_000))),
        "mutex_uncontended" => {
            row.note("async_lock::Mutex").per_op("ns_per_op", 20_000_000, || on(mutex_uncontended(20_000_000)))
        }
        "mutex_contended" => {
            row.note("async_lock::Mutex").per_op("ns_per_op", 4_000_000, || on(mutex_contended(4_000_000)))
        }
        "skynet" => row.note(CAP1).millis(1_000_000, 1, || on(skynet(1_000_000))),
        "skynet_10k" => row.note(CAP1).millis(10_000, 1, || on(skynet(10_000))),
        "sieve" => row.note(CAP1).millis(1500, 1, || on(sieve(1500))),
        "ring" => row.note(CAP1).per_op("ns_per_op", 2_000_000, || on(ring(2_000_000))),
        "memory_25k" => memory(row, 25_000),
        "memory_100k" => memory(row, 100_000),
        "memory_1m" => memory(row, 1_000_000),
        "sleep_many" => row.millis(100_000, 1, || on(sleep_many(100_000))),
        "sleep_25k" => row.millis(25_000, 1, || on(sleep_many(25_000))),
        "timer_churn" => {
            row.note("Timer polled once then dropped").per_op("ns_per_op", 1_000_000, || on(timer_churn(1_000_000)))
        }
        "local_access" => row.not_applicable("smol has no task-local storage"),
        "fork_join" => fork_join(row),
        "hog_latency" => row.hogs(hogs),
        "curve_goroutines" => {
            let n = report::size();
            let (took, bytes) = on(parked(n));
            row.once("bytes", bytes, n);
            row.once("ns", took.as_nanos() as f64, n);
        }
        "curve_timers" | "curve_waiters" | "curve_select" => row.not_applicable("not written for smol"),
        _ => report::unknown(&name),
    }
    report::exit() // tasks left blocked need no unwinding
}

/// Runs the body as a task on a worker, not on the blocking main thread.
fn on<T: Send + 'static>(f: impl Future<Output = T> + Send + 'static) -> T {
    smol::block_on(spawn(f))
}

async fn join_all<T>(tasks: Vec<Task<T>>) {
    for task in tasks {
        task.await;
    }
}

/// Counts down to zero, then wakes the one waiter.
struct Left(AtomicUsize, Sender<()>);

impl Left {
    fn new(n: usize) -> (Arc<Left>, Receiver<()>) {
        let (tx, rx) = channel::bounded(1);
        (Arc::new(Left(n.into(), tx)), rx)
    }
    fn one_done(&self) {
        if self.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.1.try_send(()).unwrap();
        }
    }
}

// ---- spawn, yield ----

async fn spawn_join(n: usize) {
    let (left, all) = Left::new(n);
    for _ in 0..n {
        let left = left.clone();
        spawn(async move { left.one_done() }).detach();
    }
    all.recv().await.unwrap();
}

async fn spawn_join_one(n: usize) {
    for _ in 0..n {
        spawn(async {}).await;
    }
}

async fn yields(tasks: usize, n: usize) {
    let one = move || async move {
        for _ in 0..n / tasks {
            yield_now().await;
        }
    };
    join_all((0..tasks).map(|_| spawn(one())).collect()).await;
}

// ---- channels ----

async fn pingpong(n: usize) {
    let (a, ra) = channel::bounded::<usize>(1);
    let (b, rb) = channel::bounded::<usize>(1);
    spawn(async move {
        while let Ok(v) = ra.recv().await {
            b.send(v).await.unwrap();
        }
    })
    .detach();
    for i in 0..n {
        a.send(i).await.unwrap();
        rb.recv().await.unwrap();
    }
}

async fn spsc(n: u64) {
    let (tx, rx) = channel::bounded::<u64>(128);
    spawn(async move {
        for i in 0..n {
            tx.send(i).await.unwrap();
        }
    })
    .detach();
    let mut sum = 0;
    while let Ok(v) = rx.recv().await {
        sum += v;
    }
    assert_eq!(sum, n * (n - 1) / 2);
}

async fn mpmc(capacity: usize, n: usize) {
    let (tx, rx) = channel::bounded::<u64>(capacity);
    let total = Arc::new(AtomicUsize::new(0));
    let mut all = vec![];
    for _ in 0..4 {
        let (tx, rx, total) = (tx.clone(), rx.clone(), total.clone());
        all.push(spawn(async move {
            for i in 0..n / 4 {
                tx.send(i as u64).await.unwrap();
            }
        }));
        all.push(spawn(async move {
            let mut k = 0;
            while let Ok(v) = rx.recv().await {
                black_box(v);
                k += 1;
            }
            total.fetch_add(k, Ordering::Relaxed);
        }));
    }
    drop((tx, rx));
    join_all(all).await;
    assert_eq!(total.load(Ordering::Relaxed), n);
}

/// The senders are kept: a channel whose feeder is done must not become ready for good by being closed.
fn feed<const K: usize>(n: usize) -> [(Sender<u64>, Receiver<u64>); K] {
    std::array::from_fn(|_| {
        let (tx, rx) = channel::bounded(1);
        let keep = tx.clone();
        spawn(async move {
            for i in 0..n / K {
                tx.send(i as u64).await.unwrap();
            }
        })
        .detach();
        (keep, rx)
    })
}

async fn select2(n: usize) {
    let [(_ka, a), (_kb, b)] = feed::<2>(n);
    for _ in 0..n {
        black_box(race(a.recv(), b.recv()).await.unwrap());
    }
}

async fn select8(n: usize) {
    let feeds = feed::<8>(n);
    let [a, b, c, d, e, f, g, h] = feeds.each_ref().map(|feed| &feed.1);
    for _ in 0..n {
        let (left, right) = (race(a.recv(), b.recv()), race(c.recv(), d.recv()));
        let (more, most) = (race(e.recv(), f.recv()), race(g.recv(), h.recv()));
        black_box(race(race(left, right), race(more, most)).await.unwrap());
    }
}

// ---- mutex ----

async fn mutex_uncontended(n: usize) {
    let m = Mutex::new(0usize);
    for _ in 0..n {
        *m.lock().await += 1;
    }
    assert_eq!(*m.lock().await, n);
}

async fn mutex_contended(n: usize) {
    let m = Arc::new(Mutex::new(0usize));
    let one = |m: Arc<Mutex<usize>>| {
        spawn(async move {
            for _ in 0..n / 8 {
                *m.lock().await += 1;
            }
        })
    };
    join_all((0..8).map(|_| one(m.clone())).collect()).await;
    assert_eq!(*m.lock().await, n);
}

// ---- skynet, sieve, ring ----

fn skynet_node(out: Sender<usize>, num: usize, size: usize) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if size == 1 {
            out.send(num).await.unwrap();
            return;
        }
        let (tx, rx) = channel::bounded(1);
        for i in 0..10 {
            spawn(skynet_node(tx.clone(), num + i * size / 10, size / 10)).detach();
        }
        let mut sum = 0;
        for _ in 0..10 {
            sum += rx.recv().await.unwrap();
        }
        out.send(sum).await.unwrap();
    })
}

async fn skynet(n: usize) {
    let (tx, rx) = channel::bounded(1);
    spawn(skynet_node(tx, 0, n)).detach();
    assert_eq!(rx.recv().await.unwrap(), n * (n - 1) / 2);
}

async fn sieve(n: usize) {
    let (tx, mut rx) = channel::bounded::<u64>(1);
    spawn(async move {
        let mut i = 2;
        while tx.send(i).await.is_ok() {
            i += 1;
        }
    })
    .detach();
    let mut p = 0;
    for _ in 0..n {
        p = rx.recv().await.unwrap();
        let (tx, next) = channel::bounded(1);
        let input = std::mem::replace(&mut rx, next);
        spawn(async move {
            while let Ok(v) = input.recv().await {
                if v % p != 0 && tx.send(v).await.is_err() {
                    return;
                }
            }
        })
        .detach();
    }
    assert_eq!(p, 12553);
}

async fn ring(n: usize) {
    const SIZE: usize = 503;
    let channels: Vec<_> = (0..SIZE).map(|_| channel::bounded::<usize>(1)).collect();
    let (done, ended) = channel::bounded::<()>(1);
    for i in 0..SIZE {
        let (tx, rx, done) = (channels[(i + 1) % SIZE].0.clone(), channels[i].1.clone(), done.clone());
        spawn(async move {
            while let Ok(v) = rx.recv().await {
                if v == 0 {
                    done.close();
                    return;
                }
                if tx.send(v - 1).await.is_err() {
                    return;
                }
            }
        })
        .detach();
    }
    channels[0].0.send(n).await.unwrap();
    assert!(ended.recv().await.is_err());
    channels.iter().for_each(|channel| _ = channel.0.close());
}

// ---- memory ----

/// One shot; the driver starts several processes and takes the median.
fn memory(row: Row<'_>, n: usize) {
    let (took, bytes) = on(parked(n));
    let row = row.note("task parked on a channel's receive");
    row.emit("bytes_per_goroutine", &[bytes / n as f64], n, "");
    row.emit("create_ns", &[took.as_nanos() as f64 / n as f64], n, "");
}

async fn parked(n: usize) -> (Duration, f64) {
    let before = report::rss_bytes();
    let (block, blocked) = channel::bounded::<()>(1);
    let started = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    for _ in 0..n {
        let (started, blocked) = (started.clone(), blocked.clone());
        spawn(async move {
            started.fetch_add(1, Ordering::Relaxed);
            let _ = blocked.recv().await;
        })
        .detach();
    }
    while started.load(Ordering::Relaxed) < n {
        yield_now().await;
    }
    let took = begin.elapsed();
    Timer::after(Duration::from_millis(300)).await;
    let bytes = report::rss_bytes() - before;
    std::mem::forget(block);
    (took, bytes)
}

// ---- timers ----

async fn sleep_many(n: usize) {
    let (left, all) = Left::new(n);
    for _ in 0..n {
        let left = left.clone();
        spawn(async move {
            Timer::after(Duration::from_millis(100)).await;
            left.one_done();
        })
        .detach();
    }
    all.recv().await.unwrap();
}

async fn timer_churn(n: usize) {
    for _ in 0..n {
        let mut timer = Timer::after(Duration::from_secs(3600));
        black_box(smol::future::poll_once(&mut timer).await);
    }
}

// ---- fork/join ----

fn par_fib(n: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if n <= 16 {
            return report::fib(n);
        }
        let a = spawn(par_fib(n - 1));
        let b = par_fib(n - 2).await;
        a.await + b
    })
}

fn fork_join(row: Row<'_>) {
    const REPS: usize = 20;
    row.millis(32, REPS, || {
        on(async {
            for _ in 0..REPS {
                assert_eq!(par_fib(32).await, 2178309);
            }
        })
    });
}

// ---- hog latency ----

fn hogs() -> (Vec<f64>, bool) {
    let s = Arc::new(Sleeper::new());
    let seen = s.clone();
    on(async move {
        let s2 = s.clone();
        let mut all = vec![spawn(async move {
            loop {
                let t = Instant::now();
                Timer::after(Duration::from_millis(1)).await;
                if !s2.woke(t) {
                    return;
                }
            }
        })];
        Timer::after(Duration::from_millis(20)).await;
        let start = s.hogs_start();
        for _ in 0..procs() {
            all.push(spawn(async move { report::hog(start + report::hog_time()) }));
        }
        join_all(all).await;
    });
    seen.result()
}
