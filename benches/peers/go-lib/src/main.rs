//! Peer benchmarks, go-lib's side. Usage: peer-go-lib NAME [procs [n]]
#[path = "../../report.rs"]
mod report;

use go_lib::chan::{Receiver, Sender, chan};
use go_lib::sync::{Mutex, WaitGroup};
use go_lib::{go, gosched};
use report::{Row, Sleeper, procs};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn main() {
    let name = report::args();
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("GOMAXPROCS", procs().to_string()) };
    let row = Row { peer: "go-lib", workload: &name, variant: "", note: "" };
    match name.as_str() {
        "spawn_join" => row.note("Arc of a WaitGroup").per_op("ns_per_op", 1_000_000, || on(|| spawn_join(1_000_000))),
        "spawn_join_one" => {
            row.note("Arc of a WaitGroup").per_op("ns_per_op", 200_000, || on(|| spawn_join_one(200_000)))
        }
        "yield_2" => row.per_op("ns_per_op", 4_000_000, || on(|| yields(2, 4_000_000))),
        "yield_1000" => row.per_op("ns_per_op", 4_000_000, || on(|| yields(1000, 4_000_000))),
        "pingpong" => row.per_op("ns_per_op", 1_000_000, || on(|| pingpong(1_000_000))),
        "chan_spsc" => row.per_op("ns_per_op", 5_000_000, || on(|| spsc(5_000_000))),
        "chan_mpmc_unbuf" => row.per_op("ns_per_op", 2_000_000, || on(|| mpmc(0, 2_000_000))),
        "chan_mpmc_128" => row.per_op("ns_per_op", 2_000_000, || on(|| mpmc(128, 2_000_000))),
        "select2" => row.per_op("ns_per_op", 1_000_000, || on(|| select2(1_000_000))),
        "select8" => row.not_applicable("select! takes 4 receives at most"),
        "mutex_uncontended" => row.note(STD).per_op("ns_per_op", 20_000_000, || on(|| mutex_uncontended(20_000_000))),
        "mutex_contended" => row.note(STD).per_op("ns_per_op", 4_000_000, || on(|| mutex_contended(4_000_000))),
        "skynet" => row.millis(1_000_000, 1, || on(|| skynet(1_000_000))),
        "skynet_10k" => row.millis(10_000, 1, || on(|| skynet(10_000))),
        "sieve" => row.millis(1500, 1, || on(|| sieve(1500))),
        "ring" => row.per_op("ns_per_op", 2_000_000, || on(|| ring(2_000_000))),
        "memory_25k" => memory(row, 25_000),
        "memory_100k" => memory(row, 100_000),
        "memory_1m" => memory(row, 1_000_000),
        "sleep_many" => row.millis(100_000, 1, || on(|| sleep_many(100_000))),
        "sleep_25k" => row.millis(25_000, 1, || on(|| sleep_many(25_000))),
        "timer_churn" => row.not_applicable("go-lib has no timer object to cancel"),
        "local_access" => row.not_applicable("go-lib has no goroutine-local storage"),
        "fork_join" => fork_join(row),
        "hog_latency" => row.hogs(hogs),
        "curve_goroutines" => {
            let n = report::size();
            let (took, bytes) = on(move || parked(n));
            row.once("bytes", bytes, n);
            row.once("ns", took.as_nanos() as f64, n);
        }
        "curve_waiters" => {
            let n = report::size();
            row.once("ns", on(move || waiters(n)).as_nanos() as f64, n);
        }
        "curve_timers" | "curve_select" => row.not_applicable("go-lib has neither timers nor selects of any size"),
        _ => report::unknown(&name),
    }
    report::exit() // goroutines left blocked need no unwinding
}

const STD: &str = "go-lib's Mutex is std's: it blocks the worker's thread";

/// Runs the body as a goroutine, not on the blocking main thread.
fn on<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    go_lib::__main_entry(f)
}

/// Starts them all and waits.
fn together(all: Vec<Box<dyn FnOnce() + Send>>) {
    let group = Arc::new(WaitGroup::new());
    group.add(all.len() as i64);
    for f in all {
        let group = group.clone();
        go!(move || {
            f();
            group.done();
        });
    }
    group.wait();
}

// ---- spawn, yield ----

fn spawn_join(n: usize) {
    let group = Arc::new(WaitGroup::new());
    group.add(n as i64);
    for _ in 0..n {
        let group = group.clone();
        go!(move || group.done());
    }
    group.wait();
}

fn spawn_join_one(n: usize) {
    let group = Arc::new(WaitGroup::new());
    for _ in 0..n {
        group.add(1);
        let done = group.clone();
        go!(move || done.done());
        group.wait();
    }
}

fn yields(goroutines: usize, n: usize) {
    let one = move || {
        for _ in 0..n / goroutines {
            gosched();
        }
    };
    together((0..goroutines).map(|_| Box::new(one) as Box<dyn FnOnce() + Send>).collect());
}

// ---- channels: closed by hand, they do not close by themselves ----

fn pingpong(n: usize) {
    let (a, ra) = chan::<usize>(0);
    let (b, rb) = chan::<usize>(0);
    go!(move || {
        while let Some(v) = ra.recv() {
            b.send(v);
        }
        b.close();
    });
    for i in 0..n {
        a.send(i);
        rb.recv().unwrap();
    }
    a.close();
    assert!(rb.recv().is_none());
}

fn spsc(n: u64) {
    let (tx, rx) = chan::<u64>(128);
    go!(move || {
        for i in 0..n {
            tx.send(i);
        }
        tx.close();
    });
    let mut sum = 0;
    while let Some(v) = rx.recv() {
        sum += v;
    }
    assert_eq!(sum, n * (n - 1) / 2);
}

fn mpmc(capacity: usize, n: usize) {
    let (tx, rx) = chan::<u64>(capacity);
    let total = Arc::new(AtomicUsize::new(0));
    let (producers, consumers) = (Arc::new(WaitGroup::new()), Arc::new(WaitGroup::new()));
    producers.add(4);
    consumers.add(4);
    for _ in 0..4 {
        let (tx, group) = (tx.clone(), producers.clone());
        go!(move || {
            for i in 0..n / 4 {
                tx.send(i as u64);
            }
            group.done();
        });
        let (rx, total, group) = (rx.clone(), total.clone(), consumers.clone());
        go!(move || {
            let mut k = 0;
            while let Some(v) = rx.recv() {
                black_box(v);
                k += 1;
            }
            total.fetch_add(k, Ordering::Relaxed);
            group.done();
        });
    }
    producers.wait();
    tx.close();
    consumers.wait();
    assert_eq!(total.load(Ordering::Relaxed), n);
}

fn select2(n: usize) {
    let [a, b]: [Receiver<u64>; 2] = std::array::from_fn(|_| {
        let (tx, rx) = chan(0);
        go!(move || {
            for i in 0..n / 2 {
                tx.send(i as u64);
            }
        });
        rx
    });
    for _ in 0..n {
        go_lib::select! {
            recv(a) -> v => { black_box(v); },
            recv(b) -> v => { black_box(v); },
        }
    }
}

// ---- mutex ----

fn mutex_uncontended(n: usize) {
    let m = Mutex::new(0usize);
    for _ in 0..n {
        *m.lock().unwrap() += 1;
    }
    assert_eq!(*m.lock().unwrap(), n);
}

fn mutex_contended(n: usize) {
    let m = Arc::new(Mutex::new(0usize));
    let one = |m: Arc<Mutex<usize>>| {
        Box::new(move || {
            for _ in 0..n / 8 {
                *m.lock().unwrap() += 1;
            }
        }) as Box<dyn FnOnce() + Send>
    };
    together((0..8).map(|_| one(m.clone())).collect());
    assert_eq!(*m.lock().unwrap(), n);
}

// ---- skynet, sieve, ring ----

fn skynet_node(out: Sender<usize>, num: usize, size: usize) {
    if size == 1 {
        out.send(num);
        return;
    }
    let (tx, rx) = chan(0);
    for i in 0..10 {
        let tx = tx.clone();
        go!(move || skynet_node(tx, num + i * size / 10, size / 10));
    }
    out.send((0..10).map(|_| rx.recv().unwrap()).sum());
}

fn skynet(n: usize) {
    let (tx, rx) = chan(0);
    go!(move || skynet_node(tx, 0, n));
    assert_eq!(rx.recv().unwrap(), n * (n - 1) / 2);
}

/// The goroutines of a run stay blocked for ever, as in the classical program.
fn sieve(n: usize) {
    let (tx, mut rx) = chan::<u64>(0);
    go!(move || (2..).for_each(|i| tx.send(i)));
    let mut p = 0;
    for _ in 0..n {
        p = rx.recv().unwrap();
        let (tx, next) = chan(0);
        let input = std::mem::replace(&mut rx, next);
        go!(move || {
            while let Some(v) = input.recv() {
                if v % p != 0 {
                    tx.send(v);
                }
            }
        });
    }
    assert_eq!(p, 12553);
}

fn ring(n: usize) {
    const SIZE: usize = 503;
    let channels: Vec<_> = (0..SIZE).map(|_| chan::<usize>(0)).collect();
    let (done, ended) = chan::<()>(0);
    for i in 0..SIZE {
        let (tx, rx, done) = (channels[(i + 1) % SIZE].0.clone(), channels[i].1.clone(), done.clone());
        go!(move || {
            while let Some(v) = rx.recv() {
                if v == 0 {
                    done.close();
                    return;
                }
                tx.send(v - 1);
            }
        });
    }
    channels[0].0.send(n);
    assert!(ended.recv().is_none());
    channels.iter().for_each(|channel| channel.0.close());
}

// ---- memory ----

/// One shot; the driver starts several processes and takes the median.
fn memory(row: Row<'_>, n: usize) {
    let (took, bytes) = on(move || parked(n));
    row.emit("bytes_per_goroutine", &[bytes / n as f64], n, "");
    row.emit("create_ns", &[took.as_nanos() as f64 / n as f64], n, "");
}

fn parked(n: usize) -> (Duration, f64) {
    let before = report::rss_bytes();
    let (block, blocked) = chan::<()>(0);
    let started = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    for _ in 0..n {
        let (started, blocked) = (started.clone(), blocked.clone());
        go!(move || {
            started.fetch_add(1, Ordering::Relaxed);
            let _ = blocked.recv();
        });
    }
    while started.load(Ordering::Relaxed) < n {
        gosched();
    }
    let took = begin.elapsed();
    go_lib::sleep(Duration::from_millis(300));
    let bytes = report::rss_bytes() - before;
    std::mem::forget(block);
    (took, bytes)
}

fn waiters(n: usize) -> Duration {
    let (tx, rx) = chan::<usize>(0);
    let (started, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(WaitGroup::new()));
    all.add(n as i64);
    for _ in 0..n {
        let (rx, started, all) = (rx.clone(), started.clone(), all.clone());
        go!(move || {
            started.fetch_add(1, Ordering::Relaxed);
            rx.recv().unwrap();
            all.done();
        });
    }
    while started.load(Ordering::Relaxed) < n {
        gosched();
    }
    go_lib::sleep(Duration::from_millis(50));
    let begin = Instant::now();
    for i in 0..n {
        tx.send(i);
    }
    all.wait();
    begin.elapsed()
}

// ---- timers ----

fn sleep_many(n: usize) {
    let all = Arc::new(WaitGroup::new());
    all.add(n as i64);
    for _ in 0..n {
        let all = all.clone();
        go!(move || {
            go_lib::sleep(Duration::from_millis(100));
            all.done();
        });
    }
    all.wait();
}

// ---- fork/join ----

fn par_fib(n: u64) -> u64 {
    if n <= 16 {
        return report::fib(n);
    }
    let (tx, rx) = chan(0);
    go!(move || tx.send(par_fib(n - 1)));
    let b = par_fib(n - 2);
    rx.recv().unwrap() + b
}

fn fork_join(row: Row<'_>) {
    const REPS: usize = 20;
    row.millis(32, REPS, || on(|| (0..REPS).for_each(|_| assert_eq!(par_fib(32), 2178309))));
}

// ---- hog latency ----

fn hogs() -> (Vec<f64>, bool) {
    let s = Arc::new(Sleeper::new());
    let seen = s.clone();
    on(move || {
        let all = Arc::new(WaitGroup::new());
        all.add(procs() as i64 + 1);
        let (s2, done) = (s.clone(), all.clone());
        go!(move || {
            loop {
                let t = Instant::now();
                go_lib::sleep(Duration::from_millis(1));
                if !s2.woke(t) {
                    return done.done();
                }
            }
        });
        go_lib::sleep(Duration::from_millis(20));
        let start = s.hogs_start();
        for _ in 0..procs() {
            let done = all.clone();
            go!(move || {
                report::hog(start + report::hog_time());
                done.done();
            });
        }
        all.wait();
    });
    seen.result()
}
