//! What can be seen of a runtime from outside: counts, and the goroutines that hold up their worker.
//!
//! Made by [`Remote::metrics`](crate::Remote::metrics); reads what others write. It costs them nothing to speak of:
//! a `membarrier`, and an exchange for each goroutine that ends meanwhile (`goroutine/refs`).

use crate::goroutine::handle::Handle;
use crate::goroutine::refs::Walk;
use crate::processor::shared::Shared;
use crate::timer::clock;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A snapshot of one runtime. The numbers are read one after the other, while it goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// Workers that run goroutines at a time, as configured.
    pub workers: usize,
    /// How many threads more there may be at most, while workers are stuck.
    pub spare_workers: usize,
    /// Worker threads that there are now, whatever they do.
    pub threads: usize,
    /// The most there were at a time.
    pub peak_threads: usize,
    /// Workers whose goroutine has come to no runtime call for long.
    pub stuck_workers: usize,
    /// True if another worker was needed at any time and there were as many as there may be, or the kernel refused.
    pub refused_workers: bool,
    /// Live goroutines.
    pub goroutines: usize,
    /// The goroutines that the stuck workers run.
    pub long_running: Vec<LongRunning>,
}

/// A goroutine that has come to no runtime call for long: it computes, or blocks in the kernel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LongRunning {
    /// Which one: with its number, name and spawn site.
    pub goroutine: Handle,
    /// For how long its worker has been known to be stuck.
    pub since: Duration,
}

/// The goroutines that the stuck workers run.
pub(crate) fn long_running(shared: &Shared) -> Vec<LongRunning> {
    let now = clock::now();
    let walk = Walk::begin();
    let long_running = shared.seats.iter().filter(|seat| seat.is_unattended()).filter_map(|seat| {
        // Acquire: pairs with the Release in `Worker::resume`. Relaxed: a snapshot.
        let (running, since) = (seat.running.load(Ordering::Acquire), seat.stuck_since.load(Ordering::Relaxed));
        // SAFETY: a goroutine's block is type-stable.
        let goroutine = unsafe { running.as_ref() }?.try_ref(&walk)?;
        Some(LongRunning { goroutine, since: Duration::from_nanos(now.saturating_sub(since)) })
    });
    long_running.collect()
}

pub(crate) fn look(shared: &Shared) -> Metrics {
    Metrics {
        workers: shared.config.workers,
        spare_workers: shared.config.spare_workers,
        threads: shared.spares.threads(),
        peak_threads: shared.spares.peak(),
        stuck_workers: shared.spares.stuck(),
        refused_workers: shared.spares.were_refused(),
        goroutines: usize::try_from(shared.live()).unwrap_or(usize::MAX),
        long_running: long_running(shared),
    }
}
