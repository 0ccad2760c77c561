//! Peer benchmarks, gorun's side. Usage: peer-gorun NAME [procs [n]]
//!
//! `GORUN_THREAD_LOCALS=isolated|pinned` sets the mode; the runtime reads it itself. The third argument is the size of a
//! `curve_*`, or the iterations of a `count_*` (see `count.rs`).
#[path = "../../report.rs"]
mod report;

mod count;
mod curve;

use gorun::sync::{Mutex, WaitGroup};
use gorun::time::Timer;
use gorun::{JoinHandle, Receiver, Sender, channel, go, select, yield_now};
use report::{Row, Sleeper, procs};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn main() {
    let name = report::args();
    // Before the first goroutine, and so before the runtime looks for it.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("GORUN_MAXPROCS", procs().to_string()) };
    let pinned = std::env::var_os("GORUN_THREAD_LOCALS").is_some_and(|mode| mode == "pinned");
    let peer = if pinned || gorun::runtime::isolation().is_err() { "gorun-pinned" } else { "gorun" };
    let row = Row { peer, workload: &name, variant: "", note: "" };
    match name.as_str() {
        "spawn_join" => row.note("WaitGroup").per_op("ns_per_op", 1_000_000, || on(|| spawn_join(1_000_000))),
        "spawn_join_one" => row.note("JoinHandle").per_op("ns_per_op", 200_000, || on(|| spawn_join_one(200_000))),
        "yield_2" => row.per_op("ns_per_op", 4_000_000, || on(|| yields(2, 4_000_000))),
        "yield_1000" => row.per_op("ns_per_op", 4_000_000, || on(|| yields(1000, 4_000_000))),
        "pingpong" => row.per_op("ns_per_op", 1_000_000, || on(|| pingpong(1_000_000))),
        "chan_spsc" => row.per_op("ns_per_op", 5_000_000, || on(|| spsc(5_000_000))),
        "chan_mpmc_unbuf" => row.per_op("ns_per_op", 2_000_000, || on(|| mpmc(0, 2_000_000))),
        "chan_mpmc_128" => row.per_op("ns_per_op", 2_000_000, || on(|| mpmc(128, 2_000_000))),
        "select2" => row.per_op("ns_per_op", 1_000_000, || on(|| select2(1_000_000))),
        "select8" => row.per_op("ns_per_op", 1_000_000, || on(|| select8(1_000_000))),
        "mutex_uncontended" => row.per_op("ns_per_op", 20_000_000, || on(|| mutex_uncontended(20_000_000))),
        "mutex_contended" => row.per_op("ns_per_op", 4_000_000, || on(|| mutex_contended(4_000_000))),
        "skynet" => row.millis(1_000_000, 1, || on(|| skynet(1_000_000))),
        "skynet_10k" => row.millis(10_000, 1, || on(|| skynet(10_000))),
        "sieve" => row.millis(1500, 1, || on(|| sieve(1500))),
        "ring" => row.per_op("ns_per_op", 2_000_000, || on(|| ring(2_000_000))),
        "memory_25k" => memory(row, 25_000),
        "memory_100k" => memory(row, 100_000),
        "memory_1m" => memory(row, 1_000_000),
        "sleep_many" => row.millis(100_000, 1, || on(|| sleep_many(100_000))),
        "sleep_25k" => row.millis(25_000, 1, || on(|| sleep_many(25_000))),
        "timer_churn" => timer_churn(row),
        "local_access" => local_access(row),
        "fork_join" => fork_join(row),
        "hog_latency" => row.hogs(hogs),
        _ if name.starts_with("curve_") => curve::run(row),
        _ if name.starts_with("count_") => count::run(&name),
        _ => report::unknown(&name),
    }
    report::exit() // goroutines left blocked need no unwinding
}

/// Runs the body as a goroutine of the default runtime, not on the blocking main thread.
fn on<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    go(f).join().unwrap()
}

fn join_all(handles: Vec<JoinHandle<()>>) {
    for handle in handles {
        handle.join().unwrap();
    }
}

// ---- spawn, yield ----

fn spawn_join(n: usize) {
    let all = WaitGroup::new();
    all.add(n);
    for _ in 0..n {
        let all = all.clone();
        go(move || all.done());
    }
    all.wait();
}

fn spawn_join_one(n: usize) {
    for _ in 0..n {
        go(|| ()).join().unwrap();
    }
}

fn yields(goroutines: usize, n: usize) {
    let one = move || {
        for _ in 0..n / goroutines {
            yield_now();
        }
    };
    join_all((0..goroutines).map(|_| go(one)).collect());
}

// ---- channels ----

fn pingpong(n: usize) {
    let (a, ra) = channel::<usize>(0);
    let (b, rb) = channel::<usize>(0);
    go(move || {
        for v in ra.iter() {
            b.send(v).unwrap();
        }
    });
    for i in 0..n {
        a.send(i).unwrap();
        rb.recv().unwrap();
    }
}

fn spsc(n: u64) {
    let (tx, rx) = channel::<u64>(128);
    go(move || {
        for i in 0..n {
            tx.send(i).unwrap();
        }
    });
    let sum: u64 = rx.iter().sum();
    assert_eq!(sum, n * (n - 1) / 2);
}

fn mpmc(capacity: usize, n: usize) {
    let (tx, rx) = channel::<u64>(capacity);
    let total = Arc::new(AtomicUsize::new(0));
    let mut all = vec![];
    for _ in 0..4 {
        let (tx, rx, total) = (tx.clone(), rx.clone(), total.clone());
        all.push(go(move || {
            for i in 0..n / 4 {
                tx.send(i as u64).unwrap();
            }
        }));
        all.push(go(move || {
            let mut k = 0;
            for v in rx.iter() {
                black_box(v);
                k += 1;
            }
            total.fetch_add(k, Ordering::Relaxed);
        }));
    }
    drop((tx, rx));
    join_all(all);
    assert_eq!(total.load(Ordering::Relaxed), n);
}

/// The senders are kept: a channel whose feeder is done must not become ready for good by being closed.
fn feed<const K: usize>(n: usize) -> [(Sender<u64>, Receiver<u64>); K] {
    std::array::from_fn(|_| {
        let (tx, rx) = channel(0);
        let keep = tx.clone();
        go(move || {
            for i in 0..n / K {
                tx.send(i as u64).unwrap();
            }
        });
        (keep, rx)
    })
}

fn select2(n: usize) {
    let [(_ka, a), (_kb, b)] = feed::<2>(n);
    for _ in 0..n {
        select! {
            recv(a) -> v => black_box(v),
            recv(b) -> v => black_box(v),
        }
        .unwrap();
    }
}

fn select8(n: usize) {
    let feeds = feed::<8>(n);
    let [a, b, c, d, e, f, g, h] = feeds.each_ref().map(|feed| &feed.1);
    for _ in 0..n {
        select! {
            recv(a) -> v => black_box(v),
            recv(b) -> v => black_box(v),
            recv(c) -> v => black_box(v),
            recv(d) -> v => black_box(v),
            recv(e) -> v => black_box(v),
            recv(f) -> v => black_box(v),
            recv(g) -> v => black_box(v),
            recv(h) -> v => black_box(v),
        }
        .unwrap();
    }
}

// ---- mutex ----

fn mutex_uncontended(n: usize) {
    let m = Mutex::new(0usize);
    for _ in 0..n {
        *m.lock() += 1;
    }
    assert_eq!(*m.lock(), n);
}

fn mutex_contended(n: usize) {
    let m = Arc::new(Mutex::new(0usize));
    let one = |m: Arc<Mutex<usize>>| {
        go(move || {
            for _ in 0..n / 8 {
                *m.lock() += 1;
            }
        })
    };
    join_all((0..8).map(|_| one(m.clone())).collect());
    assert_eq!(*m.lock(), n);
}

// ---- skynet, sieve, ring ----

fn skynet_node(out: Sender<usize>, num: usize, size: usize) {
    if size == 1 {
        out.send(num).unwrap();
        return;
    }
    let (tx, rx) = channel(0);
    for i in 0..10 {
        let tx = tx.clone();
        go(move || skynet_node(tx, num + i * size / 10, size / 10));
    }
    out.send((0..10).map(|_| rx.recv().unwrap()).sum()).unwrap();
}

fn skynet(n: usize) {
    let (tx, rx) = channel(0);
    go(move || skynet_node(tx, 0, n));
    assert_eq!(rx.recv().unwrap(), n * (n - 1) / 2);
}

fn sieve(n: usize) {
    let (tx, mut rx) = channel::<u64>(0);
    go(move || {
        let mut i = 2;
        while tx.send(i).is_ok() {
            i += 1;
        }
    });
    let mut p = 0;
    for _ in 0..n {
        p = rx.recv().unwrap();
        let (tx, next) = channel(0);
        let input = std::mem::replace(&mut rx, next);
        go(move || {
            for v in input {
                if v % p != 0 && tx.send(v).is_err() {
                    return;
                }
            }
        });
    }
    assert_eq!(p, 12553);
}

fn ring(n: usize) {
    const SIZE: usize = 503;
    let channels: Vec<_> = (0..SIZE).map(|_| channel::<usize>(0)).collect();
    let (done, ended) = channel::<()>(0);
    for i in 0..SIZE {
        let (tx, rx, done) = (channels[(i + 1) % SIZE].0.clone(), channels[i].1.clone(), done.clone());
        go(move || {
            for v in rx.iter() {
                if v == 0 {
                    done.close();
                    return;
                }
                if tx.send(v - 1).is_err() {
                    return;
                }
            }
        });
    }
    channels[0].0.send(n).unwrap();
    assert!(ended.recv().is_err());
    channels.iter().for_each(|channel| channel.0.close());
}

// ---- memory ----

/// One shot; the driver starts several processes and takes the median.
fn memory(row: Row<'_>, n: usize) {
    let (took, bytes) = on(move || parked(n));
    row.emit("bytes_per_goroutine", &[bytes / n as f64], n, "");
    row.emit("create_ns", &[took.as_nanos() as f64 / n as f64], n, "");
}

/// Starts `n` goroutines that wait on one channel: how long, and how much memory.
fn parked(n: usize) -> (Duration, f64) {
    let before = report::rss_bytes();
    let (block, blocked) = channel::<()>(0);
    let started = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    for _ in 0..n {
        let (started, blocked) = (started.clone(), blocked.clone());
        go(move || {
            started.fetch_add(1, Ordering::Relaxed);
            let _ = blocked.recv();
        });
    }
    while started.load(Ordering::Relaxed) < n {
        yield_now();
    }
    let took = begin.elapsed();
    gorun::time::sleep(Duration::from_millis(300));
    let bytes = report::rss_bytes() - before;
    std::mem::forget(block); // they stay blocked; the process ends
    (took, bytes)
}

// ---- timers ----

fn sleep_many(n: usize) {
    let all = WaitGroup::new();
    all.add(n);
    for _ in 0..n {
        let all = all.clone();
        go(move || {
            gorun::time::sleep(Duration::from_millis(100));
            all.done();
        });
    }
    all.wait();
}

const HOUR: Duration = Duration::from_secs(3600);

fn timer_churn(row: Row<'_>) {
    const N: usize = 1_000_000;
    row.per_op("ns_per_op", N, || {
        on(|| {
            for _ in 0..N {
                black_box(Timer::new(HOUR).stop());
            }
        })
    });
    row.variant("its channel asked for").per_op("ns_per_op", N, || {
        on(|| {
            for _ in 0..N {
                let timer = Timer::new(HOUR);
                let _channel = timer.channel();
                black_box(timer.stop());
            }
        })
    });
    row.variant("reset + stop of one timer").per_op("ns_per_op", N, || {
        on(|| {
            let timer = Timer::new(HOUR);
            for _ in 0..N {
                black_box(timer.reset(HOUR));
                black_box(timer.stop());
            }
        })
    });
}

// ---- local access ----

gorun::goroutine_local! {
    static CONST_INIT: Cell<u64> = const { Cell::new(7) };
    static LAZY_INIT: Cell<u64> = Cell::new(black_box(7));
}
thread_local! {
    static THREAD: Cell<u64> = const { Cell::new(7) };
}
report::out_of_line!(CONST_INIT, const_get, const_set);
report::out_of_line!(LAZY_INIT, lazy_get, lazy_set);
report::out_of_line!(THREAD, thread_get, thread_set);

fn local_access(row: Row<'_>) {
    use report::{gets, sets};
    let n = report::ACCESSES as usize;
    let both = |variant: &str, get: fn(), set: fn()| {
        let row = row.variant(variant);
        row.per_op("get_ns", n, || on(get));
        row.per_op("set_ns", n, || on(set));
    };
    both(
        "goroutine_local! const inlined",
        || gets(|| CONST_INIT.get()),
        || sets(|i| CONST_INIT.set(i)),
    );
    both(
        "goroutine_local! const inlined, by with",
        || gets(|| CONST_INIT.with(|c| c.get())),
        || sets(|i| CONST_INIT.with(|c| c.set(i))),
    );
    both("goroutine_local! const out of line", || gets(const_get), || sets(const_set));
    both(
        "goroutine_local! lazy inlined",
        || gets(|| LAZY_INIT.get()),
        || sets(|i| LAZY_INIT.set(i)),
    );
    both("goroutine_local! lazy out of line", || gets(lazy_get), || sets(lazy_set));
    both("thread_local! in a goroutine, out of line", || gets(thread_get), || sets(thread_set));
    both(
        "dynamic",
        || {
            gorun::local::set(1u32, 7u64);
            gets(|| gorun::local::get::<u32, u64>(&1).unwrap());
        },
        || sets(|i| gorun::local::set(1u32, i)),
    );
}

// ---- fork/join ----

fn par_fib(n: u64) -> u64 {
    if n <= 16 {
        return report::fib(n);
    }
    let a = go(move || par_fib(n - 1));
    let b = par_fib(n - 2);
    a.join().unwrap() + b
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
        let s2 = s.clone();
        let mut all = vec![go(move || {
            loop {
                let t = Instant::now();
                gorun::time::sleep(Duration::from_millis(1));
                if !s2.woke(t) {
                    return;
                }
            }
        })];
        gorun::time::sleep(Duration::from_millis(20));
        let start = s.hogs_start();
        for _ in 0..procs() {
            all.push(go(move || report::hog(start + report::hog_time())));
        }
        join_all(all);
    });
    seen.result()
}
