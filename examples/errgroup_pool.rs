//! A worker pool with an errgroup: at most four jobs at a time, the first failure cancels the others.
//!
//! From the documentation of `golang.org/x/sync/errgroup`. Run with `cargo run --example errgroup_pool`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use gorun::context::{self, Context};
use gorun::select;
use gorun::sync::ErrGroup;
use gorun::time;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const JOBS: usize = 40;

fn job(ctx: &Context, n: usize, poisoned: Option<usize>) -> Result<usize, String> {
    if poisoned == Some(n) {
        return Err(format!("job {n} has failed"));
    }
    select! {
        recv(time::after(Duration::from_millis(2))) -> _ => Ok(n * n), // the work
        recv(ctx.done()) -> _ => Err(format!("job {n} was not needed any more")),
    }
}

/// The sum of all results, or the first error.
fn pool(poisoned: Option<usize>) -> Result<usize, String> {
    let (group, ctx) = ErrGroup::<String>::with_context(&context::background());
    group.set_limit(4);
    let (sum, running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for n in 0..JOBS {
        let (ctx, sum, running) = (ctx.clone(), sum.clone(), running.clone());
        group.go(move || {
            assert!(running.fetch_add(1, Ordering::SeqCst) < 4, "the limit holds");
            let result = job(&ctx, n, poisoned);
            running.fetch_sub(1, Ordering::SeqCst);
            sum.fetch_add(result?, Ordering::SeqCst);
            Ok(())
        });
    }
    group.wait()?;
    Ok(sum.load(Ordering::SeqCst))
}

fn main() {
    let (all, failed) = gorun::run(|| (pool(None), pool(Some(7))));
    println!("all well: {all:?}; one fails: {failed:?}");
    assert_eq!(all, Ok((0..JOBS).map(|n| n * n).sum()));
    assert_eq!(failed, Err("job 7 has failed".to_owned()), "and not one of those that it cancelled");
}
