//! Peer benchmarks, may side. Usage: peer-may NAME [procs]
#[path = "../../report.rs"]
mod report;

use may::coroutine::{self, JoinHandle};
use may::go;
use may::sync::{Mutex, Semphore, SyncFlag, mpmc, mpsc, spsc};
use report::{Row, Sleeper, procs};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const UNBOUNDED: &str = "may's channels are unbounded";
const SEM1: &str = "may's channels are unbounded: mpsc/mpmc with a Semphore of 1 credit";

fn main() {
    let name = report::args();
    may::config().set_workers(procs());
    let row = Row { peer: "may", workload: &name, variant: "", note: "" };
    match name.as_str() {
        "spawn_join" => row
            .note("handles dropped, counter + SyncFlag")
            .per_op("ns_per_op", 1_000_000, || on(|| spawn_join(1_000_000))),
        // The same in batches that stay under vm.max_map_count, and under the
        // 1000 stacks that may's pool keeps.
        "spawn_join_batched" => {
            row.variant("batches of 900")
                .per_op("ns_per_op", 199_800, || on(|| (0..222).for_each(|_| spawn_join(900))));
            row.variant("batches of 10000")
                .per_op("ns_per_op", 200_000, || on(|| (0..20).for_each(|_| spawn_join(10_000))));
        }
        "spawn_join_one" => row.note("JoinHandle").per_op("ns_per_op", 200_000, || on(|| spawn_join_one(200_000))),
        "yield_2" => row.per_op("ns_per_op", 4_000_000, || on(|| yields(2, 4_000_000))),
        "yield_1000" => row.per_op("ns_per_op", 4_000_000, || on(|| yields(1000, 4_000_000))),
        "pingpong" => row.note(UNBOUNDED).per_op("ns_per_op", 1_000_000, || on(|| pingpong(1_000_000))),
        "chan_spsc" => {
            row.variant("spsc + Semphore 128")
                .note("capacity by a Semphore")
                .per_op("ns_per_op", 5_000_000, || on(|| spsc_bounded(128, 5_000_000)));
            row.variant("spsc unbounded")
                .note(UNBOUNDED)
                .per_op("ns_per_op", 5_000_000, || on(|| spsc_unbounded(5_000_000)));
        }
        "chan_mpmc_unbuf" => row
            .variant("mpmc + Semphore 1")
            .note(SEM1)
            .per_op("ns_per_op", 2_000_000, || on(|| mpmc_run(Some(1), 2_000_000))),
        "chan_mpmc_128" => {
            row.variant("mpmc + Semphore 128")
                .note("capacity by a Semphore")
                .per_op("ns_per_op", 2_000_000, || on(|| mpmc_run(Some(128), 2_000_000)));
            row.variant("mpmc unbounded")
                .note(UNBOUNDED)
                .per_op("ns_per_op", 2_000_000, || on(|| mpmc_run(None, 2_000_000)));
        }
        "select2" => {
            row.note("cqueue over unbounded mpsc").per_op("ns_per_op", 1_000_000, || on(|| select(2, 1_000_000)))
        }
        "select8" => {
            row.note("cqueue over unbounded mpsc").per_op("ns_per_op", 1_000_000, || on(|| select(8, 1_000_000)))
        }
        "mutex_uncontended" => row.per_op("ns_per_op", 20_000_000, || on(|| mutex_uncontended(20_000_000))),
        "mutex_contended" => row.per_op("ns_per_op", 4_000_000, || on(|| mutex_contended(4_000_000))),
        "skynet" => row.note(UNBOUNDED).millis(1_000_000, 1, || on(|| skynet(1_000_000))),
        "skynet_10k" => row.note(UNBOUNDED).millis(10_000, 1, || on(|| skynet(10_000))),
        "sieve" => row.variant("mpsc + Semphore 1").note(SEM1).millis(1500, 1, || on(|| sieve(1500))),
        "ring" => row.note(UNBOUNDED).per_op("ns_per_op", 2_000_000, || on(|| ring(2_000_000))),
        "memory_25k" => memory(row, 25_000),
        "memory_100k" => memory(row, 100_000),
        "memory_1m" => memory(row, 1_000_000),
        "sleep_many" => row.millis(100_000, 1, || on(|| sleep_many(100_000))),
        "sleep_25k" => row.millis(25_000, 1, || on(|| sleep_many(25_000))),
        "timer_churn" => row.not_applicable("may has no timer object to cancel"),
        "tcp_echo" => tcp_echo(),
        "local_access" => local_access(row),
        "fork_join" => fork_join(row),
        "hog_latency" => row.hogs(hogs),
        _ => report::unknown(&name),
    }
    report::exit()
}

/// Runs the body in a coroutine, not on the blocking main thread.
fn on<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    go!(f).join().unwrap()
}

fn join_all(handles: Vec<JoinHandle<()>>) {
    for h in handles {
        h.join().unwrap();
    }
}

/// Counts down to zero, then wakes the one waiter.
struct Left(AtomicUsize, SyncFlag);

impl Left {
    fn new(n: usize) -> Arc<Left> {
        Arc::new(Left(n.into(), SyncFlag::new()))
    }
    fn one_done(&self) {
        if self.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.1.fire();
        }
    }
}

// ---- spawn, yield ----

fn spawn_join(n: usize) {
    let left = Left::new(n);
    for _ in 0..n {
        let left = left.clone();
        go!(move || left.one_done());
    }
    left.1.wait();
}

fn spawn_join_one(n: usize) {
    for _ in 0..n {
        go!(|| ()).join().unwrap();
    }
}

fn yields(coroutines: usize, n: usize) {
    let one = move || {
        for _ in 0..n / coroutines {
            coroutine::yield_now();
        }
    };
    join_all((0..coroutines).map(|_| go!(one)).collect());
}

// ---- channels ----

fn pingpong(n: usize) {
    let (a, ra) = mpsc::channel::<usize>();
    let (b, rb) = mpsc::channel::<usize>();
    go!(move || {
        for v in ra.iter() {
            b.send(v).unwrap();
        }
    });
    for i in 0..n {
        a.send(i).unwrap();
        rb.recv().unwrap();
    }
}

fn spsc_unbounded(n: u64) {
    let (tx, rx) = spsc::channel::<u64>();
    go!(move || (0..n).for_each(|i| tx.send(i).unwrap()));
    let sum: u64 = (0..n).map(|_| rx.recv().unwrap()).sum();
    assert_eq!(sum, n * (n - 1) / 2);
}

fn spsc_bounded(cap: usize, n: u64) {
    let (tx, rx) = spsc::channel::<u64>();
    let credits = Arc::new(Semphore::new(cap));
    let c = credits.clone();
    go!(move || {
        for i in 0..n {
            c.wait();
            tx.send(i).unwrap();
        }
    });
    let mut sum = 0;
    for _ in 0..n {
        sum += rx.recv().unwrap();
        credits.post();
    }
    assert_eq!(sum, n * (n - 1) / 2);
}

fn mpmc_run(cap: Option<usize>, n: usize) {
    let (tx, rx) = mpmc::channel::<u64>();
    let credits = Arc::new(Semphore::new(cap.unwrap_or(0)));
    let bounded = cap.is_some();
    let mut hs = vec![];
    for _ in 0..4 {
        let (tx, c) = (tx.clone(), credits.clone());
        hs.push(go!(move || {
            for i in 0..n / 4 {
                if bounded {
                    c.wait();
                }
                tx.send(i as u64).unwrap();
            }
        }));
        // A fixed share each: closing a channel with several receivers
        // blocked is not needed to measure it.
        let (rx, c) = (rx.clone(), credits.clone());
        hs.push(go!(move || {
            for _ in 0..n / 4 {
                black_box(rx.recv().unwrap());
                if bounded {
                    c.post();
                }
            }
        }));
    }
    join_all(hs);
}

fn select(k: usize, n: usize) {
    may::cqueue::scope(|q| {
        for token in 0..k {
            let (tx, rx) = mpsc::channel::<u64>();
            go!(move || (0..n / k).for_each(|i| tx.send(i as u64).unwrap()));
            go!(q, token, move |es| {
                while let Ok(v) = rx.recv() {
                    es.send(v as usize);
                }
            });
        }
        for _ in 0..n {
            black_box(q.poll(None).unwrap().extra);
        }
    });
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
        go!(move || {
            for _ in 0..n / 8 {
                *m.lock().unwrap() += 1;
            }
        })
    };
    join_all((0..8).map(|_| one(m.clone())).collect());
    assert_eq!(*m.lock().unwrap(), n);
}

// ---- skynet, sieve, ring ----

fn skynet_node(out: mpsc::Sender<usize>, num: usize, size: usize) {
    if size == 1 {
        out.send(num).unwrap();
        return;
    }
    let (tx, rx) = mpsc::channel();
    for i in 0..10 {
        let tx = tx.clone();
        go!(move || skynet_node(tx, num + i * size / 10, size / 10));
    }
    out.send((0..10).map(|_| rx.recv().unwrap()).sum()).unwrap();
}

fn skynet(n: usize) {
    let (tx, rx) = mpsc::channel();
    go!(move || skynet_node(tx, 0, n));
    assert_eq!(rx.recv().unwrap(), n * (n - 1) / 2);
}

/// A channel of one credit: send waits until the last item has been taken.
struct Tx(mpsc::Sender<u64>, Arc<Semphore>);
struct Rx(mpsc::Receiver<u64>, Arc<Semphore>);

fn credit1() -> (Tx, Rx) {
    let (tx, rx) = mpsc::channel();
    let c = Arc::new(Semphore::new(1));
    (Tx(tx, c.clone()), Rx(rx, c))
}

impl Tx {
    fn send(&self, v: u64) {
        self.1.wait();
        self.0.send(v).unwrap();
    }
}

impl Rx {
    fn recv(&self) -> u64 {
        let v = self.0.recv().unwrap();
        self.1.post();
        v
    }
}

/// The coroutines of a run stay blocked for ever, as in the classical program.
fn sieve(n: usize) {
    let (tx, mut rx) = credit1();
    go!(move || (2..).for_each(|i| tx.send(i)));
    let mut p = 0;
    for _ in 0..n {
        p = rx.recv();
        let (tx, next) = credit1();
        let input = std::mem::replace(&mut rx, next);
        go!(move || loop {
            let v = input.recv();
            if v % p != 0 {
                tx.send(v);
            }
        });
    }
    std::mem::forget(rx);
    assert_eq!(p, 12553);
}

fn ring(n: usize) {
    const SIZE: usize = 503;
    let (first, first_rx) = mpsc::channel::<usize>();
    let done = Left::new(1);
    let mut input = first_rx;
    for i in 0..SIZE {
        let (mut tx, next) = mpsc::channel();
        if i == SIZE - 1 {
            tx = first.clone();
        }
        let (rx, done) = (std::mem::replace(&mut input, next), done.clone());
        go!(move || {
            while let Ok(v) = rx.recv() {
                if v == 0 {
                    done.one_done();
                    return;
                }
                if tx.send(v - 1).is_err() {
                    return;
                }
            }
        });
    }
    first.send(n).unwrap();
    done.1.wait();
}

// ---- memory ----

/// One shot; run.sh starts five processes and takes the median.
fn memory(row: Row, n: usize) {
    let note = format!(
        "parked; default stack {} words = {} KiB plus what generator adds",
        may::config().get_stack_size(),
        may::config().get_stack_size() * 8 / 1024
    );
    on(|| ()); // the scheduler and its 1000 pooled coroutines
    let before = report::rss_bytes();
    let (took, after) = on(move || {
        let started = Arc::new(AtomicUsize::new(0));
        let t = Instant::now();
        for _ in 0..n {
            let started = started.clone();
            go!(move || {
                started.fetch_add(1, Ordering::Relaxed);
                coroutine::park();
            });
        }
        // Not yield_now: with one worker may never looks at its global queue,
        // where spawned coroutines wait, while the local queue has a yielder.
        while started.load(Ordering::Relaxed) < n {
            coroutine::sleep(Duration::from_millis(1));
        }
        let took = t.elapsed();
        coroutine::sleep(Duration::from_millis(300));
        (took, report::rss_bytes())
    });
    let row = row.note(&note);
    row.emit("bytes_per_goroutine", &[(after - before) / n as f64], n, "");
    row.emit("create_ns", &[took.as_nanos() as f64 / n as f64], n, "");
}

// ---- timers ----

fn sleep_many(n: usize) {
    let left = Left::new(n);
    for _ in 0..n {
        let left = left.clone();
        go!(move || {
            coroutine::sleep(Duration::from_millis(100));
            left.one_done();
        });
    }
    left.1.wait();
}

// ---- tcp echo: the server only, loadgen measures ----

fn tcp_echo() {
    use std::io::{Read, Write};
    let l = may::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("LISTEN {}", l.local_addr().unwrap().port());
    on(move || {
        loop {
            let (mut s, _) = l.accept().unwrap();
            s.set_nodelay(true).unwrap();
            go!(move || {
                let mut buf = vec![0u8; 4096];
                while let Ok(n @ 1..) = s.read(&mut buf) {
                    if s.write_all(&buf[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    })
}

// ---- local access ----

may::coroutine_local!(static LOCAL: Cell<u64> = Cell::new(7));

fn local_access(row: Row) {
    const N: u64 = 50_000_000;
    let row = row.variant("coroutine_local!");
    row.per_op("get_ns", N as usize, || {
        on(|| {
            (0..N).for_each(|_| {
                black_box(LOCAL.with(|c| c.get()));
            })
        })
    });
    row.per_op("set_ns", N as usize, || on(|| (0..N).for_each(|i| LOCAL.with(|c| c.set(black_box(i))))));
}

// ---- fork/join ----

fn par_fib(n: u64) -> u64 {
    if n <= 16 {
        return report::fib(n);
    }
    let a = go!(move || par_fib(n - 1));
    let b = par_fib(n - 2);
    a.join().unwrap() + b
}

fn fork_join(row: Row) {
    const REPS: usize = 20;
    row.millis(32, REPS, || on(|| (0..REPS).for_each(|_| assert_eq!(par_fib(32), 2178309))));
}

// ---- hog latency ----

fn hogs() -> (Vec<f64>, bool) {
    let s = Arc::new(Sleeper::new());
    let seen = s.clone();
    on(move || {
        let s2 = s.clone();
        let mut hs = vec![go!(move || loop {
            let t = Instant::now();
            coroutine::sleep(Duration::from_millis(1));
            if !s2.woke(t) {
                return;
            }
        })];
        coroutine::sleep(Duration::from_millis(20));
        let start = s.hogs_start();
        for _ in 0..procs() {
            hs.push(go!(move || report::hog(start + report::hog_time())));
        }
        join_all(hs);
    });
    seen.result()
}
