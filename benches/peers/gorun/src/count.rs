//! Hot paths for callgrind: `count_NAME PROCS N` does one thing N times. The difference between N and 2 N iterations,
//! divided by N, is what one of them costs in instructions, without the start of process and runtime.

use crate::{CONST_INIT, HOUR, LAZY_INIT, const_get, const_set, on, report};
use gorun::sync::WaitGroup;
use gorun::time::Timer;
use gorun::{channel, go, select, yield_now};
use std::hint::black_box;

/// Name, what one iteration is, and its body.
type Path = (&'static str, &'static str, fn(usize));

/// In the order of the table.
const PATHS: &[Path] = &[
    ("nothing", "the loop itself", |n| (0..n).for_each(|i| _ = black_box(i))),
    ("spawn_join", "`go` of an empty closure, `join`", |n| (0..n).for_each(|_| go(|| ()).join().unwrap())),
    ("spawn_batch", "`go`, `WaitGroup::done`; 100 at a time, one wait", |n| {
        for _ in 0..n / 100 {
            crate::spawn_join(100);
        }
    }),
    ("spawn_join_local", "`go`, first set of a local, the cleaning exit, `join`", |n| {
        (0..n).for_each(|_| go(|| CONST_INIT.with(|c| c.set(black_box(1)))).join().unwrap())
    }),
    ("yield_alone", "`yield_now`, nobody else there", |n| (0..n).for_each(|_| yield_now())),
    ("yield_two", "`yield_now`, two take turns", |n| crate::yields(2, n)),
    ("pingpong", "unbuffered: send, receive, send, receive; 4 switches at most", crate::pingpong),
    ("park_ready", "an unbuffered send and its receive: park, ready, switch", |n| {
        let (tx, rx) = channel::<usize>(0);
        let other = go(move || rx.iter().for_each(|v| _ = black_box(v)));
        (0..n).for_each(|i| tx.send(i).unwrap());
        drop(tx);
        other.join().unwrap();
    }),
    ("chan_buffered", "capacity 128: `send` and `recv` without waiting", |n| {
        let (tx, rx) = channel(128);
        for i in 0..n {
            tx.send(i).unwrap();
            black_box(rx.recv().unwrap());
        }
    }),
    ("chan_spsc_128", "capacity 128, a sender and a receiver, per item", |n| crate::spsc(n as u64)),
    ("try_recv_empty", "`try_recv` of an empty channel", |n| {
        let (_tx, rx) = channel::<usize>(1);
        (0..n).for_each(|_| _ = black_box(rx.try_recv()))
    }),
    ("select2_ready", "`send`; `select!` of 2 receives, one of them ready", |n| {
        let (a, b) = (channel(1), channel::<usize>(1));
        for i in 0..n {
            a.0.send(i).unwrap();
            select! {
                recv(a.1) -> v => _ = black_box(v),
                recv(b.1) -> v => _ = black_box(v),
            }
        }
    }),
    ("select2_fed", "`select!` of 2 unbuffered, a feeder each", crate::select2),
    ("select8_fed", "`select!` of 8 unbuffered, a feeder each", crate::select8),
    ("mutex", "`Mutex`: lock and unlock, free", |n| crate::mutex_uncontended(n)),
    ("mutex_contended", "`Mutex`: lock and unlock, 8 goroutines", |n| crate::mutex_contended(n - n % 8)),
    ("wait_group", "`WaitGroup`: `add`, `done`", |n| {
        let group = WaitGroup::new();
        for _ in 0..n {
            group.add(1);
            group.done();
        }
    }),
    ("timer_reset", "`Timer`: `reset` and `stop` of one", |n| {
        let timer = Timer::new(HOUR);
        for _ in 0..n {
            black_box(timer.reset(HOUR));
            black_box(timer.stop());
        }
    }),
    ("timer_new", "`Timer::new`, `stop`, drop", |n| (0..n).for_each(|_| _ = black_box(Timer::new(HOUR).stop()))),
    ("local_get", "`goroutine_local!` const: get, out of line", |n| (0..n).for_each(|_| _ = black_box(const_get()))),
    ("local_set", "`goroutine_local!` const: set, out of line", |n| (0..n).for_each(|_| const_set(black_box(1)))),
    ("local_lazy_get", "`goroutine_local!` lazy: get, inlined", |n| {
        (0..n).for_each(|_| _ = black_box(LAZY_INIT.with(|c| c.get())))
    }),
    ("local_dynamic_get", "`local::get` by a `u32`", |n| {
        gorun::local::set(1u32, 7u64);
        (0..n).for_each(|_| _ = black_box(gorun::local::get::<u32, u64>(&1)))
    }),
    ("local_dynamic_set", "`local::set` by a `u32`", |n| (0..n).for_each(|i| gorun::local::set(1u32, i as u64))),
    ("mutex_std", "for comparison: std's `Mutex`, free", |n| {
        let mutex = std::sync::Mutex::new(0usize);
        (0..n).for_each(|_| *mutex.lock().unwrap() += 1);
        black_box(mutex);
    }),
];

/// `count_list` prints the names and what they are.
pub fn run(name: &str) {
    let name = name.trim_start_matches("count_");
    if name == "list" {
        PATHS.iter().for_each(|path| println!("{}\t{}", path.0, path.1));
        return;
    }
    let Some(&(_, _, body)) = PATHS.iter().find(|path| path.0 == name) else { report::unknown(name) };
    let n = report::size();
    on(move || body(n));
}
