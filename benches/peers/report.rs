//! Shared by the Rust peers: repeat, report, small helpers. Settings: `PEER_REPEAT`, `PEER_HOG_MS`.
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub static PROCS: OnceLock<usize> = OnceLock::new();
static START: OnceLock<Instant> = OnceLock::new();

pub fn procs() -> usize {
    *PROCS.get().unwrap()
}

/// Reads `NAME [procs]`, and starts the process clock.
pub fn args() -> String {
    START.set(Instant::now()).unwrap();
    let a: Vec<String> = std::env::args().collect();
    if a.len() < 2 {
        eprintln!("usage: {} NAME [procs]", a[0]);
        std::process::exit(2);
    }
    let procs = a.get(2).map_or(2, |s| s.parse().expect("procs is a number"));
    PROCS.set(procs).unwrap();
    a[1].clone()
}

pub fn unknown(name: &str) -> ! {
    eprintln!("unknown workload {name}");
    std::process::exit(3)
}

/// Ends the process without waiting for what is still blocked.
pub fn exit() -> ! {
    std::io::Write::flush(&mut std::io::stdout()).unwrap();
    std::process::exit(0)
}

/// The third argument.
#[allow(dead_code)]
pub fn size() -> usize {
    std::env::args().nth(3).and_then(|n| n.parse().ok()).expect("usage: NAME PROCS N")
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |v| v.parse().expect("a number"))
}

/// Repetitions in a process.
pub fn repetitions() -> usize {
    setting("PEER_REPEAT", 5)
}

/// Once to warm up, then PEER_REPEAT times, five by default (fewer once the process is past 45 s).
pub fn repeat(mut body: impl FnMut()) -> Vec<Duration> {
    body();
    let mut out = Vec::new();
    for i in 0..repetitions() {
        if i > 0 && START.get().unwrap().elapsed() > Duration::from_secs(45) {
            break;
        }
        let t = Instant::now();
        body();
        out.push(t.elapsed());
    }
    out
}

/// One row of identity: who, what, which variant, and a note.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub peer: &'a str,
    pub workload: &'a str,
    pub variant: &'a str,
    pub note: &'a str,
}

impl<'a> Row<'a> {
    #[allow(dead_code)]
    pub fn variant(mut self, v: &'a str) -> Self {
        self.variant = v;
        self
    }
    pub fn note(mut self, n: &'a str) -> Self {
        self.note = n;
        self
    }
    #[allow(dead_code)]
    pub fn peer(mut self, p: &'a str) -> Self {
        self.peer = p;
        self
    }

    pub fn emit(&self, metric: &str, vals: &[f64], n: usize, extra: &str) {
        let mut s = vals.to_vec();
        s.sort_by(f64::total_cmp);
        let opt = |k: &str, v: &str| if v.is_empty() { String::new() } else { format!("\"{k}\":\"{v}\",") };
        println!(
            "{{\"peer\":\"{}\",\"workload\":\"{}\",{}\"procs\":{},\"metric\":\"{}\",\"value\":{:.3},\"min\":{:.3},\"max\":{:.3},\"runs\":{},{}\"n\":{}{}}}",
            self.peer,
            self.workload,
            opt("variant", self.variant),
            procs(),
            metric,
            s[s.len() / 2],
            s[0],
            s[s.len() - 1],
            s.len(),
            opt("note", self.note),
            n,
            extra
        );
    }

    /// One value of a process, for each of `n`.
    #[allow(dead_code)]
    pub fn once(&self, metric: &str, sum: f64, n: usize) {
        self.emit(metric, &[sum / n as f64], n, "");
    }

    pub fn per_op(&self, metric: &str, n: usize, body: impl FnMut()) {
        let v: Vec<f64> = repeat(body).iter().map(|d| d.as_nanos() as f64 / n as f64).collect();
        self.emit(metric, &v, n, "");
    }

    pub fn millis(&self, n: usize, reps: usize, body: impl FnMut()) {
        let v: Vec<f64> = repeat(body).iter().map(|d| d.as_secs_f64() * 1e3 / reps as f64).collect();
        self.emit("ms", &v, n, "");
    }

    #[allow(dead_code)]
    pub fn not_applicable(&self, why: &str) {
        println!(
            "{{\"peer\":\"{}\",\"workload\":\"{}\",\"procs\":{},\"error\":\"n/a: {}\"}}",
            self.peer,
            self.workload,
            procs(),
            why
        );
    }

    /// `one` runs once per repetition and returns the delays in us.
    pub fn hogs(&self, mut one: impl FnMut() -> (Vec<f64>, bool)) {
        let (mut p50, mut p99, mut most, mut count, mut starved) = (vec![], vec![], vec![], vec![], 0);
        for i in 0..repetitions() + 1 {
            let (mut d, s) = one();
            if i == 0 {
                continue;
            }
            d.sort_by(f64::total_cmp);
            p50.push(d[d.len() / 2]);
            p99.push(d[d.len() * 99 / 100]);
            most.push(d[d.len() - 1]);
            count.push(d.len());
            starved += s as usize;
        }
        count.sort();
        let extra = format!(",\"starved_runs\":{},\"samples\":{}", starved, count[count.len() / 2]);
        self.emit("p50_us", &p50, procs(), &extra);
        self.emit("p99_us", &p99, procs(), &extra);
        self.emit("max_us", &most, procs(), &extra);
    }
}

/// Collects what the sleeper of hog_latency sees. Zero `from_ns` means the
/// hogs have not started yet.
pub struct Sleeper {
    base: Instant,
    from_ns: std::sync::atomic::AtomicU64,
    seen: std::sync::Mutex<(Vec<f64>, usize)>,
}

pub fn hog_time() -> Duration {
    Duration::from_millis(setting("PEER_HOG_MS", 3000) as u64)
}

impl Sleeper {
    pub fn new() -> Self {
        Sleeper { base: Instant::now(), from_ns: 0.into(), seen: Default::default() }
    }
    pub fn hogs_start(&self) -> Instant {
        let now = Instant::now();
        let ns = (now - self.base).as_nanos() as u64;
        self.from_ns.store(ns, std::sync::atomic::Ordering::SeqCst);
        now
    }
    /// One sleep began at `t` and is over now; false when the hogs' time is up.
    pub fn woke(&self, t: Instant) -> bool {
        let now = Instant::now();
        let from = self.from_ns.load(std::sync::atomic::Ordering::SeqCst);
        if from == 0 {
            return true;
        }
        let mut g = self.seen.lock().unwrap();
        g.0.push((now - t).as_nanos() as f64 / 1e3);
        let ran = (now - self.base) - Duration::from_nanos(from);
        if ran > Duration::from_millis(50) && ran < hog_time() {
            g.1 += 1;
        }
        ran < hog_time()
    }
    pub fn result(&self) -> (Vec<f64>, bool) {
        let g = self.seen.lock().unwrap();
        (g.0.clone(), g.1 == 0)
    }
}

/// Spins without any yield in chunks of some tens of ms.
pub fn hog(deadline: Instant) {
    let mut x = 88172645463325252u64;
    while Instant::now() < deadline {
        for _ in 0..30_000_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        black_box(x);
    }
}

#[inline(never)]
pub fn fib(n: u64) -> u64 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

pub fn rss_bytes() -> f64 {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = s.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

// ---- local access ----

/// Out of line: one access a call, so nothing of it can be hoisted.
#[allow(unused_macros)]
macro_rules! out_of_line {
    ($key:ident, $get:ident, $set:ident) => {
        #[inline(never)]
        fn $get() -> u64 {
            $key.with(|c| c.get())
        }
        #[inline(never)]
        fn $set(v: u64) {
            $key.with(|c| c.set(v))
        }
    };
}
#[allow(unused_imports)]
pub(crate) use out_of_line;

#[allow(dead_code)]
pub const ACCESSES: u64 = 50_000_000;

#[allow(dead_code)]
pub fn gets(f: impl Fn() -> u64) {
    for _ in 0..ACCESSES {
        black_box(f());
    }
}

#[allow(dead_code)]
pub fn sets(f: impl Fn(u64)) {
    for i in 0..ACCESSES {
        f(black_box(i));
    }
}

// ---- curves ----

/// A number below a million for `i`, in no order.
#[allow(dead_code)]
pub fn scatter(i: usize) -> u64 {
    (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44
}

/// So many that the largest select still ends in a second or so.
#[allow(dead_code)]
pub fn select_turns(arms: usize) -> usize {
    (4_000_000 / (arms + 16)).max(200)
}
