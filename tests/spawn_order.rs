//! Which goroutine begins first: on one worker the newest, so that a tree is run depth first; but none waits for ever,
//! and a loop that spawns does not run ahead of what it spawns.

mod common;

use common::child::in_mode;
use gorun::runtime::{Builder, ThreadLocals};
use gorun::sync::WaitGroup;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// On one worker, all by itself, once for each kind of goroutine that can be had.
fn on_one_worker(f: impl Fn(ThreadLocals) + Send + Sync) {
    on_one_worker_and(0, f);
}

fn on_one_worker_and(spare: usize, f: impl Fn(ThreadLocals) + Send + Sync) {
    for mode in [ThreadLocals::Pinned, ThreadLocals::Isolated] {
        if let Some(runtime) = in_mode(Builder::new().workers(1).spare_workers(spare), mode) {
            runtime.run(|| f(mode));
        }
    }
}

/// How many there are now, and the most there have been.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn up(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
    }
    fn down(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn a_loop_that_spawns_lets_them_go_first() {
    const N: usize = 20_000;
    // It gives way only where another worker could be brought in.
    on_one_worker_and(8, |mode| {
        let (alive, all) = (Arc::new(Gauge::default()), WaitGroup::new());
        for _ in 0..N {
            alive.up();
            let alive = alive.clone();
            all.go(move || alive.down());
        }
        all.wait();
        let most = alive.most.load(Ordering::Relaxed);
        // A pinned one can't be made to wait here: it runs ahead until it waits by itself.
        assert!(mode == ThreadLocals::Pinned || most <= 600, "{most} alive at once");
    });
}

fn node(begun: &Arc<Gauge>, depth: usize) -> usize {
    begun.up();
    let (tx, rx) = gorun::channel(0);
    let children = if depth == 0 { 0 } else { 10 };
    for _ in 0..children {
        let (tx, begun) = (tx.clone(), begun.clone());
        gorun::go(move || tx.send(node(&begun, depth - 1)).unwrap());
    }
    let below: usize = rx.iter().take(children).sum();
    begun.down();
    1 + below
}

#[test]
fn a_tree_of_goroutines_is_run_depth_first() {
    on_one_worker(|mode| {
        let begun = Arc::new(Gauge::default());
        assert_eq!(node(&begun, 4), 11_111);
        // Breadth first it would be 1,111 inner nodes, and then their 10,000 leaves.
        let most = begun.most.load(Ordering::Relaxed);
        assert!(most < 300, "{mode}: {most} begun at once");
    });
}

/// Each spawns the next one, until the oldest has begun.
fn chain(oldest: &Arc<AtomicBool>, done: gorun::Sender<usize>, steps: usize) {
    if oldest.load(Ordering::Relaxed) || steps == 1_000_000 {
        done.send(steps).unwrap();
        return;
    }
    let oldest = oldest.clone();
    gorun::go(move || chain(&oldest, done, steps + 1));
}

#[test]
fn the_oldest_begins_though_newer_ones_keep_coming() {
    on_one_worker(|mode| {
        let begun = Arc::new(AtomicBool::new(false));
        let oldest = {
            let begun = begun.clone();
            gorun::go(move || begun.store(true, Ordering::Relaxed))
        };
        let (tx, rx) = gorun::channel(1);
        chain(&begun, tx, 0);
        let steps = rx.recv().unwrap();
        assert!(steps < 10_000, "{mode}: after {steps} newer ones");
        oldest.join().unwrap();
    });
}

/// Each spawns the next one. When told to, it spawns one before that, which will be the oldest.
fn chain_beside(told: Arc<AtomicBool>, begun: gorun::Sender<usize>, since: Option<(Arc<AtomicBool>, usize)>) {
    let since = match since {
        Some((oldest, _)) if oldest.load(Ordering::Relaxed) => return,
        Some((oldest, links)) => Some((oldest, links + 1)),
        None => told.load(Ordering::Relaxed).then(|| {
            let oldest = Arc::new(AtomicBool::new(false));
            let done = oldest.clone();
            gorun::go(move || done.store(true, Ordering::Relaxed));
            (oldest, 0)
        }),
    };
    if let Some((_, links)) = &since
        && begun.send(*links).is_err()
    {
        return;
    }
    gorun::go(move || chain_beside(told, begun, since));
}

#[test]
fn the_oldest_begins_though_there_is_always_more_from_outside() {
    const OUTSIDE: usize = 5_000;
    // No spare worker: none must steal it.
    let runtime = Builder::new().workers(1).spare_workers(0).build().unwrap();
    let told = Arc::new(AtomicBool::new(false));
    let (links, count) = gorun::channel(usize::MAX);
    let left = Arc::new(AtomicUsize::new(0));
    let worker = told.clone();
    runtime.go(move || chain_beside(worker, links, None)).unwrap();
    // The worker has always one of its own, and takes one of these in 61 turns only.
    for _ in 0..OUTSIDE {
        left.fetch_add(1, Ordering::Relaxed);
        let left = left.clone();
        runtime.go(move || left.fetch_sub(1, Ordering::Relaxed)).unwrap();
    }
    let most = left.load(Ordering::Relaxed) * 61;
    told.store(true, Ordering::Relaxed);
    let links = count.iter().max().unwrap_or(0);
    assert!(links < most / 10, "{links} began before it; the others will have begun after {most}");
}
