//! What a parked goroutine costs in memory: `cost isolated|pinned nothing|allocate|libraries|tracing [GOROUTINES]`, and
//! what switching costs: `cost isolated|pinned switch`.
//!
//! The former starts 100,000 (unless told otherwise) that each do something and then wait, and prints the resident memory for each;
//! then lets them end, and does it again twice: the second and third number tell what is used again. Once for each
//! allocator: `--features jemalloc`, `--features mimalloc`. The latter takes the best of several runs of two goroutines on
//! one worker. The tables of `docs/thread-locals.md` are its output.

use gorun::runtime::{Builder, ThreadLocals};
use gorun_compat::status_kib;
use regex::Regex;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{LazyLock, Once};
use std::time::Instant;

#[global_allocator]
static GLOBAL: gorun_compat::Allocator = gorun_compat::ALLOCATOR;

type Kept = (Vec<Box<[u8]>>, Option<tracing::Span>);

fn nothing() -> Kept {
    (Vec::new(), None)
}

/// Some small values come and go, one is kept.
fn allocate() -> Kept {
    let all: Vec<Box<[u8]>> = (1..=50).map(|n| vec![n; 16 * usize::from(n)].into()).collect();
    black_box(&all);
    (vec![vec![1; 64].into()], None)
}

/// A regular expression, a map, a buffer.
fn libraries() -> Kept {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\w+)-(\d+)").expect("a pattern"));
    let text: String = (0..50).map(|n| format!("word-{n} ")).collect();
    let map: HashMap<String, String> =
        WORDS.captures_iter(&text).map(|found| (found[1].to_owned() + &found[2], found[2].to_owned())).collect();
    let mut buffer = Vec::with_capacity(8 << 10);
    buffer.extend(map.into_iter().flat_map(|(key, value)| (key + &value).into_bytes()));
    black_box(&buffer);
    (vec![vec![1; 64].into()], None)
}

/// An event in a span, formatted; the span stays open. At most 4,096 isolated ones: see `tests/tracing_limit.rs`.
fn tracing() -> Kept {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::fmt().with_writer(std::io::sink).init());
    let span = tracing::info_span!("one", number = 7);
    span.in_scope(|| tracing::info!("an event"));
    (Vec::new(), Some(span))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mode = match arguments.first().map(String::as_str) {
        Some("isolated") => ThreadLocals::Isolated,
        Some("pinned") => ThreadLocals::Pinned,
        _ => usage(),
    };
    if arguments.get(1).is_some_and(|what| what == "switch") {
        return switch(mode);
    }
    let what = match arguments.get(1).map(String::as_str) {
        Some("nothing") => nothing,
        Some("allocate") => allocate,
        Some("libraries") => libraries,
        Some("tracing") => tracing,
        _ => usage(),
    };
    let n: usize = arguments.get(2).map_or(Some(100_000), |n| n.parse().ok()).unwrap_or_else(|| usage());
    let runtime = Builder::new().workers(2).thread_locals(mode).build().expect("a runtime");
    runtime.run(move || {
        what();
        let before = status_kib("VmRSS");
        let mut costs = Vec::new();
        for _ in 0..3 {
            let (open, gate) = gorun::channel::<()>(0);
            let (done, dones) = gorun::channel(1024);
            let goroutines: Vec<_> = (0..n)
                .map(|_| {
                    let (gate, done) = (gate.clone(), done.clone());
                    gorun::go(move || {
                        let kept = what();
                        done.send(()).expect("open");
                        let _closed = gate.recv();
                        drop(kept);
                    })
                })
                .collect();
            (0..n).for_each(|_| dones.recv().expect("open"));
            costs.push((status_kib("VmRSS") - before) as f64 / n as f64);
            drop(open);
            goroutines.into_iter().for_each(|g| g.join().expect("no panic"));
        }
        println!("{mode} {} {n}: {costs:.2?} KiB each, {} KiB for each when all have ended", arguments[1], {
            (status_kib("VmRSS") - before) / n
        });
    });
}

/// Two goroutines on one worker that yield to each other, and that hand a value back and forth.
fn switch(mode: ThreadLocals) {
    const TIMES: u32 = 200_000;
    const RUNS: u32 = 15;
    let best = |f: fn()| {
        let runs = (0..RUNS).map(|_| {
            let runtime = Builder::new().workers(1).thread_locals(mode).build().expect("a runtime");
            runtime.run(|| {
                let began = Instant::now();
                f();
                began.elapsed().as_nanos() as f64 / f64::from(TIMES)
            })
        });
        runs.fold(f64::INFINITY, f64::min)
    };
    let yields = best(|| {
        let both = [0, 1].map(|_| gorun::go(|| (0..TIMES).for_each(|_| gorun::yield_now())));
        both.into_iter().for_each(|g| g.join().expect("no panic"));
    });
    let round_trip = best(|| {
        let (ping, pings) = gorun::channel(0);
        let (pong, pongs) = gorun::channel(0);
        let echo = gorun::go(move || pings.into_iter().for_each(|n: u32| pong.send(n).expect("open")));
        for n in 0..TIMES {
            ping.send(n).expect("open");
            assert_eq!(pongs.recv(), Ok(n));
        }
        drop(ping);
        echo.join().expect("no panic");
    });
    let spawn = best(|| (0..TIMES).for_each(|_| gorun::go(|| ()).join().expect("no panic")));
    println!(
        "{mode}: two yields {yields:.1} ns, round trip over channels {round_trip:.1} ns, spawn and join {spawn:.1} ns"
    );
}

fn usage() -> ! {
    eprintln!("usage: cost isolated|pinned nothing|allocate|libraries|tracing|switch [GOROUTINES]");
    std::process::exit(2)
}
