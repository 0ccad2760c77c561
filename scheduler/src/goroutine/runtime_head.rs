//! What a goroutine knows of its runtime: the process in which that runs, and where it is in its life.
//!
//! The first field of what the workers of a runtime share (`processor/shared`).
//!
//! * **S1.** `phase` only grows.

use crate::base::atomics::{AtomicU8, Ordering};
use crate::base::{membarrier, process};

/// Where a runtime is in its life (S1).
pub(crate) const RUNNING: u8 = 0;
/// Nothing more from outside; everything is being told that it will be aborted.
pub(crate) const ENDING: u8 = 1;
/// Everything is being aborted.
pub(crate) const DRAINING: u8 = 2;
/// The workers leave.
pub(crate) const STOPPING: u8 = 3;

#[derive(Debug)]
pub(crate) struct RuntimeHead {
    /// The process in which its workers are.
    pub(crate) process: u64,
    phase: AtomicU8,
}

impl RuntimeHead {
    pub(crate) fn new() -> RuntimeHead {
        RuntimeHead { process: process::process(), phase: AtomicU8::new(RUNNING) }
    }

    pub(crate) fn phase(&self) -> u8 {
        // SeqCst: spawn counts itself and then reads the phase, the drain writes the phase and then counts.
        self.phase.load(Ordering::SeqCst)
    }

    pub(crate) fn set_phase(&self, phase: u8) {
        self.phase.fetch_max(phase, Ordering::SeqCst);
    }

    /// Phase DRAINING. What was spawned and marked, or has ended, without seeing it can be seen by the caller afterwards.
    pub(crate) fn begin_drain(&self) {
        self.set_phase(DRAINING);
        membarrier::heavy();
    }
}
