//! Forks that are waited for.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Seconds after which a forked process that hangs is killed, and its test fails.
const GENEROUS: libc::c_uint = 60;

/// Forks. In the child `None`, and it is killed if it takes too long; else the child's number.
pub(crate) fn fork() -> Option<libc::pid_t> {
    // SAFETY: what the child may do with gorun after it is what these tests are about.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: no preconditions.
            unsafe { libc::alarm(GENEROUS) };
            None
        }
        pid => Some(pid),
    }
}

/// How the forked process ended.
pub(crate) fn wait_for(pid: libc::pid_t) -> ExitStatus {
    let mut status = 0;
    // SAFETY: a place for the status.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
        let error = std::io::Error::last_os_error();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
    }
    ExitStatus::from_raw(status)
}

/// Runs `f` in a forked child, which ends on the spot when `f` has returned, and has to end well.
pub(crate) fn in_fork(f: impl FnOnce()) {
    let Some(pid) = fork() else {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        // SAFETY: ends the process without the parent's at-exit functions.
        unsafe { libc::_exit(if ended.is_ok() { 0 } else { 101 }) }
    };
    let status = wait_for(pid);
    assert!(status.success(), "the forked child: {status}");
}
