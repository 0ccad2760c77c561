//! The calling thread's `errno`, kept or read around system calls.
//!
//! Used wherever a system call is made in the middle of somebody else's work.

/// Runs `f`, and leaves the calling thread's `errno` as it was.
pub(crate) fn keeping_errno<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: no preconditions; the address is looked up before and after `f`, which suspends nothing.
    #[cfg(target_os = "linux")]
    let before = unsafe { *libc::__errno_location() };
    let result = f();
    // SAFETY: as above.
    #[cfg(target_os = "linux")]
    unsafe {
        *libc::__errno_location() = before;
    }
    result
}

/// The calling thread's `errno`.
pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
