//! Go's pipeline with cancellation: numbers are generated, squared by several goroutines, merged, and the consumer
//! stops early; every stage ends, because the context says so.
//!
//! From "Go Concurrency Patterns: Pipelines and cancellation" (go.dev/blog/pipelines), its `done` channel written as a
//! context. Run with `cargo run --example pipeline`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use gorun::chan::Receiver;
use gorun::context::{self, Context};
use gorun::select;
use gorun::sync::WaitGroup;

/// Sends the numbers from 1 on until nobody wants more.
fn generate(ctx: &Context, stages: &WaitGroup) -> Receiver<u64> {
    let (numbers, out) = gorun::channel(0);
    let ctx = ctx.clone();
    stages.go(move || {
        for n in 1.. {
            select! {
                send(numbers, n) -> _ => {}
                recv(ctx.done()) -> _ => return,
            }
        }
    });
    out
}

/// Squares what comes in.
fn square(ctx: &Context, stages: &WaitGroup, input: &Receiver<u64>) -> Receiver<u64> {
    let (squares, out) = gorun::channel(0);
    let (ctx, input) = (ctx.clone(), input.clone());
    stages.go(move || {
        for n in input {
            select! {
                send(squares, n * n) -> _ => {}
                recv(ctx.done()) -> _ => return,
            }
        }
    });
    out
}

/// Passes on what comes from all of them.
fn merge(ctx: &Context, stages: &WaitGroup, inputs: Vec<Receiver<u64>>) -> Receiver<u64> {
    let (merged, out) = gorun::channel(0);
    for input in inputs {
        let (ctx, merged) = (ctx.clone(), merged.clone());
        stages.go(move || {
            for n in input {
                select! {
                    send(merged, n) -> _ => {}
                    recv(ctx.done()) -> _ => return,
                }
            }
        });
    }
    out
}

fn main() {
    let taken = gorun::run(|| {
        let stages = WaitGroup::new();
        let (ctx, cancel) = context::background().with_cancel();
        let numbers = generate(&ctx, &stages);
        let squarers = (0..3).map(|_| square(&ctx, &stages, &numbers)).collect();
        let merged = merge(&ctx, &stages, squarers);
        let taken: Vec<u64> = merged.iter().take(20).collect();
        cancel.cancel();
        stages.wait(); // every stage has seen it
        taken
    });
    println!("{taken:?}");
    assert_eq!(taken.len(), 20);
    let roots = taken.iter().map(|n| n.isqrt()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(roots.len(), 20, "each number once");
    assert!(taken.iter().all(|n| n.isqrt().pow(2) == *n));
}
