//! Peer benchmarks, tokio side (and the references rayon and std thread_local).
//! Usage: peer-tokio NAME [procs]
#[path = "../../report.rs"]
mod report;

mod curve;

use report::{Row, Sleeper, procs};
use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::yield_now;

const CAP1: &str = "tokio has no unbuffered mpsc: capacity 1";

fn main() {
    let name = report::args();
    let row = Row { peer: "tokio", workload: &name, variant: "", note: "" };
    let rt = &tokio::runtime::Builder::new_multi_thread().worker_threads(procs()).enable_all().build().unwrap();
    match name.as_str() {
        "spawn_join" => row
            .note("handles dropped, counter + Notify")
            .per_op("ns_per_op", 1_000_000, || on(rt, spawn_join(1_000_000))),
        "spawn_join_one" => row.note("JoinHandle").per_op("ns_per_op", 200_000, || on(rt, spawn_join_one(200_000))),
        "yield_2" => row.per_op("ns_per_op", 4_000_000, || on(rt, yields(2, 4_000_000))),
        "yield_1000" => row.per_op("ns_per_op", 4_000_000, || on(rt, yields(1000, 4_000_000))),
        "pingpong" => row.note(CAP1).per_op("ns_per_op", 1_000_000, || on(rt, pingpong(1_000_000))),
        "chan_spsc" => row.per_op("ns_per_op", 5_000_000, || on(rt, spsc(5_000_000))),
        "chan_mpmc_unbuf" => {
            row.variant("async-channel").note("async-channel has no capacity 0: capacity 1").per_op(
                "ns_per_op",
                2_000_000,
                || on(rt, mpmc_async_channel(1, 2_000_000)),
            );
            row.variant("flume")
                .note("flume bounded(0)")
                .per_op("ns_per_op", 2_000_000, || on(rt, mpmc_flume(0, 2_000_000)));
        }
        "chan_mpmc_128" => {
            row.variant("async-channel").per_op("ns_per_op", 2_000_000, || on(rt, mpmc_async_channel(128, 2_000_000)));
            row.variant("flume").per_op("ns_per_op", 2_000_000, || on(rt, mpmc_flume(128, 2_000_000)));
        }
        "select2" => row.note(CAP1).per_op("ns_per_op", 1_000_000, || on(rt, select2(1_000_000))),
        "select8" => row.note(CAP1).per_op("ns_per_op", 1_000_000, || on(rt, select8(1_000_000))),
        "mutex_uncontended" => {
            row.note("tokio::sync::Mutex").per_op("ns_per_op", 20_000_000, || on(rt, mutex_uncontended(20_000_000)));
            row.peer("std").per_op("ns_per_op", 20_000_000, || std_mutex(1, 20_000_000));
        }
        "mutex_contended" => {
            row.note("tokio::sync::Mutex").per_op("ns_per_op", 4_000_000, || on(rt, mutex_contended(4_000_000)));
            let std = row.peer("std").note("8 threads; as many processors as there are");
            std.per_op("ns_per_op", 4_000_000, || std_mutex(8, 4_000_000));
        }
        "skynet" => row.note(CAP1).millis(1_000_000, 1, || on(rt, skynet(1_000_000))),
        "skynet_10k" => row.note(CAP1).millis(10_000, 1, || on(rt, skynet(10_000))),
        "sieve" => row.note(CAP1).millis(1500, 1, || on(rt, sieve(1500))),
        "ring" => row.note(CAP1).per_op("ns_per_op", 2_000_000, || on(rt, ring(2_000_000))),
        "memory_25k" => on(rt, memory(row_static(&name), 25_000)),
        "memory_100k" => on(rt, memory(row_static(&name), 100_000)),
        "memory_1m" => on(rt, memory(row_static(&name), 1_000_000)),
        "sleep_many" => row.millis(100_000, 1, || on(rt, sleep_many(100_000))),
        "sleep_25k" => row.millis(25_000, 1, || on(rt, sleep_many(25_000))),
        "timer_churn" => {
            row.note("sleep polled once then dropped").per_op("ns_per_op", 1_000_000, || on(rt, timer_churn(1_000_000)))
        }
        "tcp_echo" => on(rt, tcp_echo()),
        "local_access" => local_access(rt, row),
        "fork_join" => fork_join(rt, row),
        "hog_latency" => row.hogs(|| hogs(rt)),
        _ if name.starts_with("curve_") => curve::run(rt, row),
        _ => report::unknown(&name),
    }
    report::exit() // tasks left blocked need no unwinding
}

fn row_static(name: &str) -> Row<'static> {
    let w: &'static str = Box::leak(name.to_string().into_boxed_str());
    Row { peer: "tokio", workload: w, variant: "", note: "task parked on Notify" }
}

/// Runs the body as a task on a worker, not on the blocking main thread.
fn on<T: Send + 'static>(rt: &Runtime, f: impl Future<Output = T> + Send + 'static) -> T {
    rt.block_on(rt.spawn(f)).unwrap()
}

// ---- spawn, yield ----

async fn spawn_join(n: usize) {
    let left = Arc::new((AtomicUsize::new(n), Notify::new()));
    for _ in 0..n {
        let left = left.clone();
        tokio::spawn(async move {
            if left.0.fetch_sub(1, Ordering::AcqRel) == 1 {
                left.1.notify_one();
            }
        });
    }
    left.1.notified().await;
}

async fn spawn_join_one(n: usize) {
    for _ in 0..n {
        tokio::spawn(async {}).await.unwrap();
    }
}

async fn join_all<T>(handles: Vec<tokio::task::JoinHandle<T>>) {
    for h in handles {
        h.await.unwrap();
    }
}

async fn yields(tasks: usize, n: usize) {
    let one = move || async move {
        for _ in 0..n / tasks {
            yield_now().await;
        }
    };
    join_all((0..tasks).map(|_| tokio::spawn(one())).collect()).await;
}

// ---- channels ----

async fn pingpong(n: usize) {
    let (a, mut ra) = mpsc::channel::<usize>(1);
    let (b, mut rb) = mpsc::channel::<usize>(1);
    tokio::spawn(async move {
        while let Some(v) = ra.recv().await {
            b.send(v).await.unwrap();
        }
    });
    for i in 0..n {
        a.send(i).await.unwrap();
        rb.recv().await.unwrap();
    }
}

async fn spsc(n: u64) {
    let (tx, mut rx) = mpsc::channel::<u64>(128);
    tokio::spawn(async move {
        for i in 0..n {
            tx.send(i).await.unwrap();
        }
    });
    let mut sum = 0;
    while let Some(v) = rx.recv().await {
        sum += v;
    }
    assert_eq!(sum, n * (n - 1) / 2);
}

async fn mpmc_async_channel(cap: usize, n: usize) {
    let (tx, rx) = async_channel::bounded::<u64>(cap);
    let total = Arc::new(AtomicUsize::new(0));
    let mut hs = vec![];
    for _ in 0..4 {
        let (tx, rx, total) = (tx.clone(), rx.clone(), total.clone());
        hs.push(tokio::spawn(async move {
            for i in 0..n / 4 {
                tx.send(i as u64).await.unwrap();
            }
        }));
        hs.push(tokio::spawn(async move {
            let mut k = 0;
            while let Ok(v) = rx.recv().await {
                black_box(v);
                k += 1;
            }
            total.fetch_add(k, Ordering::Relaxed);
        }));
    }
    drop((tx, rx));
    join_all(hs).await;
    assert_eq!(total.load(Ordering::Relaxed), n);
}

async fn mpmc_flume(cap: usize, n: usize) {
    let (tx, rx) = flume::bounded::<u64>(cap);
    let total = Arc::new(AtomicUsize::new(0));
    let mut hs = vec![];
    for _ in 0..4 {
        let (tx, rx, total) = (tx.clone(), rx.clone(), total.clone());
        hs.push(tokio::spawn(async move {
            for i in 0..n / 4 {
                tx.send_async(i as u64).await.unwrap();
            }
        }));
        hs.push(tokio::spawn(async move {
            let mut k = 0;
            while let Ok(v) = rx.recv_async().await {
                black_box(v);
                k += 1;
            }
            total.fetch_add(k, Ordering::Relaxed);
        }));
    }
    drop((tx, rx));
    join_all(hs).await;
    assert_eq!(total.load(Ordering::Relaxed), n);
}

fn feed<const K: usize>(n: usize) -> [mpsc::Receiver<u64>; K] {
    std::array::from_fn(|_| {
        let (tx, rx) = mpsc::channel(1);
        tokio::spawn(async move {
            for i in 0..n / K {
                tx.send(i as u64).await.unwrap();
            }
        });
        rx
    })
}

async fn select2(n: usize) {
    let [mut a, mut b] = feed::<2>(n);
    for _ in 0..n {
        tokio::select! {
            Some(v) = a.recv() => black_box(v),
            Some(v) = b.recv() => black_box(v),
        };
    }
}

async fn select8(n: usize) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = feed::<8>(n);
    for _ in 0..n {
        tokio::select! {
            Some(v) = a.recv() => black_box(v),
            Some(v) = b.recv() => black_box(v),
            Some(v) = c.recv() => black_box(v),
            Some(v) = d.recv() => black_box(v),
            Some(v) = e.recv() => black_box(v),
            Some(v) = f.recv() => black_box(v),
            Some(v) = g.recv() => black_box(v),
            Some(v) = h.recv() => black_box(v),
        };
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
    let hs = (0..8)
        .map(|_| {
            let m = m.clone();
            tokio::spawn(async move {
                for _ in 0..n / 8 {
                    *m.lock().await += 1;
                }
            })
        })
        .collect();
    join_all(hs).await;
    assert_eq!(*m.lock().await, n);
}

/// The reference: std's, between threads.
fn std_mutex(threads: usize, n: usize) {
    let m = std::sync::Mutex::new(0usize);
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| (0..n / threads).for_each(|_| *m.lock().unwrap() += 1));
        }
    });
    assert_eq!(m.into_inner().unwrap(), n);
}

// ---- skynet, sieve, ring ----

fn skynet_node(out: mpsc::Sender<usize>, num: usize, size: usize) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if size == 1 {
            out.send(num).await.unwrap();
            return;
        }
        let (tx, mut rx) = mpsc::channel(1);
        for i in 0..10 {
            tokio::spawn(skynet_node(tx.clone(), num + i * size / 10, size / 10));
        }
        let mut sum = 0;
        for _ in 0..10 {
            sum += rx.recv().await.unwrap();
        }
        out.send(sum).await.unwrap();
    })
}

async fn skynet(n: usize) {
    let (tx, mut rx) = mpsc::channel(1);
    tokio::spawn(skynet_node(tx, 0, n));
    assert_eq!(rx.recv().await.unwrap(), n * (n - 1) / 2);
}

async fn sieve(n: usize) {
    let (tx, mut rx) = mpsc::channel::<u64>(1);
    tokio::spawn(async move {
        let mut i = 2;
        while tx.send(i).await.is_ok() {
            i += 1;
        }
    });
    let mut p = 0;
    for _ in 0..n {
        p = rx.recv().await.unwrap();
        let (tx, next) = mpsc::channel(1);
        let mut input = std::mem::replace(&mut rx, next);
        tokio::spawn(async move {
            while let Some(v) = input.recv().await {
                if v % p != 0 && tx.send(v).await.is_err() {
                    return;
                }
            }
        });
    }
    assert_eq!(p, 12553);
}

async fn ring(n: usize) {
    const SIZE: usize = 503;
    let (first, mut rx) = mpsc::channel::<usize>(1);
    let done = Arc::new(Notify::new());
    for i in 0..SIZE {
        let (tx, next) = if i == SIZE - 1 {
            (first.clone(), None)
        } else {
            let (t, r) = mpsc::channel(1);
            (t, Some(r))
        };
        let mut input = match next {
            Some(r) => std::mem::replace(&mut rx, r),
            None => std::mem::replace(&mut rx, mpsc::channel(1).1),
        };
        let done = done.clone();
        tokio::spawn(async move {
            while let Some(v) = input.recv().await {
                if v == 0 {
                    done.notify_one();
                    return;
                }
                if tx.send(v - 1).await.is_err() {
                    return;
                }
            }
        });
    }
    first.send(n).await.unwrap();
    done.notified().await;
}

// ---- memory ----

/// One shot; the driver starts several processes and takes the median.
async fn memory(row: Row<'static>, n: usize) {
    let (took, bytes) = parked(n).await;
    row.emit("bytes_per_goroutine", &[bytes / n as f64], n, "");
    row.emit("create_ns", &[took.as_nanos() as f64 / n as f64], n, "");
}

async fn parked(n: usize) -> (Duration, f64) {
    let before = report::rss_bytes();
    let block = Arc::new((AtomicUsize::new(0), Notify::new()));
    let t = Instant::now();
    for _ in 0..n {
        let block = block.clone();
        tokio::spawn(async move {
            block.0.fetch_add(1, Ordering::Relaxed);
            block.1.notified().await;
        });
    }
    while block.0.load(Ordering::Relaxed) < n {
        yield_now().await;
    }
    let d = t.elapsed();
    tokio::time::sleep(Duration::from_millis(300)).await;
    (d, report::rss_bytes() - before)
}

// ---- timers ----

async fn sleep_many(n: usize) {
    let left = Arc::new((AtomicUsize::new(n), Notify::new()));
    for _ in 0..n {
        let left = left.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if left.0.fetch_sub(1, Ordering::AcqRel) == 1 {
                left.1.notify_one();
            }
        });
    }
    left.1.notified().await;
}

async fn timer_churn(n: usize) {
    for _ in 0..n {
        let mut s = pin!(tokio::time::sleep(Duration::from_secs(3600)));
        std::future::poll_fn(|cx| {
            let pending = s.as_mut().poll(cx).is_pending();
            std::task::Poll::Ready(black_box(pending))
        })
        .await;
    }
}

// ---- tcp echo: the server only, loadgen measures ----

async fn tcp_echo() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let l = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("LISTEN {}", l.local_addr().unwrap().port());
    loop {
        let (mut s, _) = l.accept().await.unwrap();
        s.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let mut buf = [0u8; 4096];
            while let Ok(n @ 1..) = s.read(&mut buf).await {
                if s.write_all(&buf[..n]).await.is_err() {
                    return;
                }
            }
        });
    }
}

// ---- local access ----

tokio::task_local! {
    static TASK: Cell<u64>;
}
thread_local! {
    static CONST_INIT: Cell<u64> = const { Cell::new(0) };
    static LAZY_INIT: Cell<u64> = Cell::new(black_box(0));
}

use report::{ACCESSES, gets, out_of_line, sets};
out_of_line!(TASK, task_get, task_set);
out_of_line!(CONST_INIT, const_get, const_set);
out_of_line!(LAZY_INIT, lazy_get, lazy_set);
#[inline(never)]
fn nothing(v: u64) -> u64 {
    unsafe { std::arch::asm!("/* {0} */", in(reg) v, options(nostack)) }; // keeps the call
    v
}

fn local_access(rt: &Runtime, row: Row) {
    let n = ACCESSES as usize;
    let scoped = |f: fn()| on(rt, TASK.scope(Cell::new(7), async move { f() }));
    let v = row.variant("task_local! inlined");
    v.per_op("get_ns", n, || scoped(|| gets(|| TASK.with(|c| c.get()))));
    v.per_op("set_ns", n, || scoped(|| sets(|i| TASK.with(|c| c.set(i)))));
    let v = row.variant("task_local! out of line");
    v.per_op("get_ns", n, || scoped(|| gets(task_get)));
    v.per_op("set_ns", n, || scoped(|| sets(task_set)));
    let row = row.peer("std");
    let v = row.variant("thread_local! const inlined");
    v.per_op("get_ns", n, || gets(|| CONST_INIT.with(|c| c.get())));
    v.per_op("set_ns", n, || sets(|i| CONST_INIT.with(|c| c.set(i))));
    let v = row.variant("thread_local! const out of line");
    v.per_op("get_ns", n, || gets(const_get));
    v.per_op("set_ns", n, || sets(const_set));
    let v = row.variant("thread_local! lazy inlined");
    v.per_op("get_ns", n, || gets(|| LAZY_INIT.with(|c| c.get())));
    v.per_op("set_ns", n, || sets(|i| LAZY_INIT.with(|c| c.set(i))));
    let v = row.variant("thread_local! lazy out of line");
    v.per_op("get_ns", n, || gets(lazy_get));
    v.per_op("set_ns", n, || sets(lazy_set));
    let v = row.variant("no access: the out-of-line call alone");
    v.per_op("get_ns", n, || gets(|| nothing(7)));
    v.per_op("set_ns", n, || {
        sets(|i| {
            nothing(i);
        })
    });
}

// ---- fork/join ----

fn par_fib(n: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if n <= 16 {
            return report::fib(n);
        }
        let a = tokio::spawn(par_fib(n - 1));
        let b = par_fib(n - 2).await;
        a.await.unwrap() + b
    })
}

fn rayon_fib(n: u64) -> u64 {
    if n <= 16 {
        return report::fib(n);
    }
    let (a, b) = rayon::join(|| rayon_fib(n - 1), || rayon_fib(n - 2));
    a + b
}

fn fork_join(rt: &Runtime, row: Row) {
    const REPS: usize = 20;
    row.millis(32, REPS, || {
        on(rt, async {
            for _ in 0..REPS {
                assert_eq!(par_fib(32).await, 2178309);
            }
        })
    });
    let pool = rayon::ThreadPoolBuilder::new().num_threads(procs()).build().unwrap();
    row.peer("rayon").millis(32, REPS, || pool.install(|| (0..REPS).for_each(|_| assert_eq!(rayon_fib(32), 2178309))));
    row.peer("rayon")
        .variant("sequential")
        .millis(32, REPS, || (0..REPS).for_each(|_| assert_eq!(report::fib(black_box(32)), 2178309)));
}

// ---- hog latency ----

fn hogs(rt: &Runtime) -> (Vec<f64>, bool) {
    let s = Arc::new(Sleeper::new());
    let seen = s.clone();
    on(rt, async move {
        let s2 = s.clone();
        let mut hs = vec![tokio::spawn(async move {
            loop {
                let t = Instant::now();
                tokio::time::sleep(Duration::from_millis(1)).await;
                if !s2.woke(t) {
                    return;
                }
            }
        })];
        tokio::time::sleep(Duration::from_millis(20)).await;
        let start = s.hogs_start();
        for _ in 0..procs() {
            hs.push(tokio::spawn(async move { report::hog(start + report::hog_time()) }));
        }
        join_all(hs).await;
    });
    seen.result()
}
