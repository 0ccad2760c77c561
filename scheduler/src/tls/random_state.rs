//! The states with which `getrandom` avoids system calls (glibc 2.41 and newer, Linux 6.11): passed on from a freed block
//! to a new one.
//!
//! A thread gets one when it first asks for random bytes: memory that it shares with the kernel, referenced only by its
//! control block, from which glibc takes it back when the thread ends. glibc does not see a block end. So the state is
//! taken out before the block is freed, and put into the next new block, which would otherwise make one. A state belongs to
//! the block whose word refers to it, and has no tie to a thread.
//!
//! A `fork` ends that: in the child, glibc takes back the states of threads that do not exist there, and the states stored
//! here may be among them. No thread waits for the lock, because in a child a thread that does not exist there may hold it.

use crate::base::process;
use std::sync::Mutex;

/// glibc marks a state with this bit while it is in use.
const BUSY: usize = 1;

struct Spare {
    /// Whose they are.
    process: u64,
    states: Vec<usize>,
}

static SPARE: Mutex<Spare> = Mutex::new(Spare { process: 0, states: Vec::new() });

fn with_spare<T>(f: impl FnOnce(&mut Vec<usize>) -> T) -> Option<T> {
    let mut spare = SPARE.try_lock().ok()?;
    let process = process::process();
    if spare.process != process {
        *spare = Spare { process, states: Vec::new() };
    }
    Some(f(&mut spare.states))
}

/// For a new block; 0: it makes one when it needs one.
pub(super) fn take() -> usize {
    with_spare(Vec::pop).flatten().unwrap_or(0)
}

/// From a block that is never used again.
pub(super) fn give(state: usize) {
    if state != 0 && state & BUSY == 0 {
        with_spare(|states| states.push(state));
    }
}
