//! A worker pool: three workers take jobs from one channel and put results into another.
//!
//! The jobs' channel ends when its sender is dropped, which ends the workers; the results' channel ends when
//! the last worker has dropped its sender, which ends the collecting loop. Nothing has to be counted.
//!
//! Run with `cargo run --example worker_pool`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::time::{Duration, Instant};

const WORKERS: u64 = 3;
const JOBS: u64 = 9;

fn main() {
    let started = Instant::now();
    let mut results = gorun::run(|| {
        let (jobs, inbox) = gorun::channel::<u64>(4);
        let (outbox, results) = gorun::channel(4);
        for worker in 1..=WORKERS {
            let (inbox, outbox) = (inbox.clone(), outbox.clone());
            gorun::go(move || {
                for job in inbox {
                    gorun::time::sleep(Duration::from_millis(20)); // the work
                    if outbox.send((job, worker, job * job)).is_err() {
                        break;
                    }
                }
            });
        }
        drop((inbox, outbox));
        gorun::go(move || {
            for job in 1..=JOBS {
                if jobs.send(job).is_err() {
                    break;
                }
            }
        });
        results.into_iter().collect::<Vec<_>>()
    });
    results.sort_unstable();
    for (job, worker, square) in &results {
        println!("job {job}: worker {worker} says {square}");
    }
    println!("{JOBS} jobs of 20 ms in {} ms", started.elapsed().as_millis());
    assert!(results.iter().map(|(job, _, _)| *job).eq(1..=JOBS));
}
