//! The processor time of a thread, which does not advance while the thread blocks in the kernel.
//!
//! `monitor` reads it for workers that seem stuck. It is a heuristic for the pace at which threads are started: a thread
//! that the kernel has not scheduled looks the same.

/// The calling thread's clock, for [`read`]; 0 where there is none.
#[cfg(target_os = "linux")]
pub(crate) fn mine() -> i32 {
    let mut clock = 0;
    // SAFETY: the calling thread exists, and the pointer outlives the call.
    match unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) } {
        0 => clock,
        _ => 0,
    }
}

/// Reads a thread's clock, in nanoseconds. Returns `None` if there is no such thread or no clock.
#[cfg(target_os = "linux")]
pub(crate) fn read(clock: i32) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer outlives the call; any number may be asked for. 0 is the wall clock, and nobody's own.
    (clock != 0 && unsafe { libc::clock_gettime(clock, &raw mut time) } == 0)
        .then(|| time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn mine() -> i32 {
    0
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read(_clock: i32) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_thread_that_blocks_does_not_get_on_and_one_that_computes_does() {
        let (told, tells) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            told.send(mine()).unwrap();
            let _ = ends.recv();
        });
        let clock = tells.recv().unwrap();
        // It is about to block; at some time it has.
        while read(clock).unwrap() != read(clock).unwrap() {}
        let (here, before) = (mine(), read(mine()).unwrap());
        while read(here).unwrap() == before {}
        drop(end);
        thread.join().unwrap();
        assert_eq!(read(0), None);
    }
}
