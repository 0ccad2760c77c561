//! Decides whether stacks must be executable: they are if the process's own stack is.
//!
//! GCC's nested functions run code that lies on the stack. A program or library that needs it says so in its header
//! `PT_GNU_STACK`, or has no such header, and then libc makes the main stack and those of threads executable. A C library
//! that works on a thread must also work in a goroutine; in nearly all programs, where no code needs it, no stack is
//! executable.
//!
//! Called by `arena`, for each chunk that is mapped. A library that is loaded later does not change existing chunks.

/// The protection of a chunk.
pub(super) fn protection() -> libc::c_int {
    let usual = libc::PROT_READ | libc::PROT_WRITE;
    if somebody_needs_it() { usual | libc::PROT_EXEC } else { usual }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn somebody_needs_it() -> bool {
    use std::ffi::{c_int, c_void};
    extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, kernels: *mut c_void) -> c_int {
        // SAFETY: the loader passes its record, whose headers are those of a loaded library.
        let (info, headers) = unsafe {
            let info = &*info;
            (info, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
        };
        // The kernel's own library is not loaded by libc, and need not say it.
        if info.dlpi_addr == kernels as u64 {
            return 0;
        }
        let header = headers.iter().find(|header| header.p_type == libc::PT_GNU_STACK);
        c_int::from(header.is_none_or(|header| header.p_flags & libc::PF_X != 0))
    }
    // SAFETY: the function has no preconditions; the callback has the signature asked for and does not unwind.
    unsafe {
        let kernels = libc::getauxval(libc::AT_SYSINFO_EHDR);
        libc::dl_iterate_phdr(Some(look), kernels as *mut c_void) != 0
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn somebody_needs_it() -> bool {
    false
}
