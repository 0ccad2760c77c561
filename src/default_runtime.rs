//! The runtime that plain threads spawn on: started at the first need.
//!
//! Used by `go`, `time` and `runtime`.

use gorun_scheduler::{Config, PerProcess, Remote, Scheduler};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The default runtime: starts itself at the first need of a plain thread, and lives as long as the process. A `run` does
/// not stand in for it: what a plain thread spawned would then be aborted when somebody else's `run` ends.
static DEFAULT: PerProcess<Mutex<Option<Scheduler>>> = PerProcess::new();

fn default_slot() -> MutexGuard<'static, Option<Scheduler>> {
    DEFAULT.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// The default runtime, started if need be.
pub(crate) fn default_remote() -> Remote {
    let mut slot = default_slot();
    if let Some(scheduler) = &*slot {
        return scheduler.remote();
    }
    let scheduler = match Config::from_env().and_then(Scheduler::start) {
        Ok(scheduler) => scheduler,
        Err(error) => {
            drop(slot);
            panic!("gorun: the default runtime could not start: {error}");
        }
    };
    slot.insert(scheduler).remote()
}

/// The default runtime, if it runs.
pub(crate) fn running_default() -> Option<Remote> {
    default_slot().as_ref().map(Scheduler::remote)
}
