//! The states by which `getrandom` answers without a system call (glibc 2.41 and newer, Linux 6.11): passed on from a block
//! that goes to one that is made.
//!
//! A thread gets one when it first asks for random bytes: a piece of memory that it shares with the kernel, known to nobody but
//! its control block, from which glibc takes it back when the thread ends. It does not see a block end. So it is taken out
//! before the block goes, and put into the next new one, which would make one otherwise. A state is nobody's but the block's in
//! whose word it is, and has no tie to a thread.
//!
//! `fork` ends that: in the child glibc takes back the states of threads that are not there, and it is not taken for granted that
//! those which wait here are not among them. Nobody waits for the lock, because in a child it may be held by a thread that is
//! not there.

use crate::process;
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
