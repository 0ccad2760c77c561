//! Snapshots of a runtime: of one that is at hand, of the caller's, of the default one.

use crate::default_runtime::running_default;
use crate::go::Goroutine;
use gorun_scheduler::Remote;
use std::time::Duration;

/// A snapshot of one runtime. The numbers are read one after the other, while it goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// Workers that run goroutines at a time, as configured.
    pub workers: usize,
    /// How many threads more there may be while workers are stuck: [`Builder::spare_workers`](super::Builder::spare_workers).
    pub spare_workers: usize,
    /// Worker threads that there are now, whatever they do.
    pub threads: usize,
    /// The highest number of threads so far.
    pub peak_threads: usize,
    /// Workers whose goroutine has come to no runtime call for 20 ms or more.
    pub stuck_workers: usize,
    /// True if another worker was needed at any time, and there were as many as there may be or the kernel refused.
    pub refused_workers: bool,
    /// Live goroutines.
    pub goroutines: usize,
    /// The goroutines that the stuck workers run.
    pub long_running: Vec<LongRunning>,
}

/// A goroutine that computes or blocks in the kernel, and has come to no runtime call for 20 ms or more.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LongRunning {
    /// Which one: its number, name and spawn site.
    pub goroutine: Goroutine,
    /// For how long its worker has been known to be stuck.
    pub since: Duration,
}

impl Metrics {
    pub(super) fn of(runtime: &Remote) -> Metrics {
        let seen = runtime.metrics();
        let long = seen.long_running.into_iter();
        let long = long.map(|it| LongRunning { goroutine: Goroutine::new(it.goroutine), since: it.since });
        Metrics {
            workers: seen.workers,
            spare_workers: seen.spare_workers,
            threads: seen.threads,
            peak_threads: seen.peak_threads,
            stuck_workers: seen.stuck_workers,
            refused_workers: seen.refused_workers,
            goroutines: seen.goroutines,
            long_running: long.collect(),
        }
    }
}

/// A snapshot of the runtime of the goroutine that calls; on a plain thread, of the default one. `None` on a plain thread
/// before the default runtime has started: a look does not start it.
///
/// ```
/// let inside = gorun::run(|| gorun::runtime::metrics().unwrap().goroutines);
/// assert!(inside >= 1);
/// ```
#[must_use]
pub fn metrics() -> Option<Metrics> {
    Remote::current().or_else(running_default).map(|runtime| Metrics::of(&runtime))
}

/// A snapshot of the default runtime, whoever calls. `None` before it has started: a look does not start it.
///
/// ```
/// gorun::go(|| ()).join().unwrap(); // from a plain thread, so it is the default runtime's
/// assert!(gorun::runtime::default_metrics().unwrap().workers >= 1);
/// ```
#[must_use]
pub fn default_metrics() -> Option<Metrics> {
    running_default().map(|runtime| Metrics::of(&runtime))
}
