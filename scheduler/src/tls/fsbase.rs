//! The register that thread-locals are addressed by, and whether user space may write it.

use super::error::Unsupported;
use std::arch::asm;

/// Bit 1 of `AT_HWCAP2`: the kernel lets user space use the FSGSBASE instructions (Linux 5.9).
const HWCAP2_FSGSBASE: libc::c_ulong = 1 << 1;

/// Whether `wrfsbase` can be executed here. `GORUN_NO_FSGSBASE=1` says no; it is internal, for tests, and may change.
pub(super) fn usable() -> Result<(), Unsupported> {
    if std::env::var_os("GORUN_NO_FSGSBASE").is_some_and(|v| v == "1") {
        return Err(Unsupported::new("GORUN_NO_FSGSBASE is set"));
    }
    // First: valgrind hides the bit as well.
    if under_valgrind() {
        return Err(Unsupported::new("valgrind can't execute wrfsbase"));
    }
    // SAFETY: getauxval has no preconditions.
    if unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE == 0 {
        return Err(Unsupported::new("the kernel does not let user space set the FS base (FSGSBASE, Linux 5.9)"));
    }
    for sanitizer in [c"__asan_init", c"__tsan_init", c"__msan_init"] {
        // SAFETY: a name with its terminator.
        if !unsafe { libc::dlsym(libc::RTLD_DEFAULT, sanitizer.as_ptr()) }.is_null() {
            return Err(Unsupported::new("a sanitizer is at work, which keeps track of threads by their FS base"));
        }
    }
    Ok(())
}

/// Valgrind's client request `RUNNING_ON_VALGRIND`, as in its `valgrind.h`: four rotations that add up to nothing
/// and an exchange of a register with itself, which only valgrind gives a meaning.
fn under_valgrind() -> bool {
    const RUNNING_ON_VALGRIND: usize = 0x1001;
    let request: [usize; 6] = [RUNNING_ON_VALGRIND, 0, 0, 0, 0, 0];
    let answer: usize;
    // SAFETY: on a processor the sequence changes flags only; under valgrind it reads `request` and sets rdx.
    // rbx is not ours to name, but it is left as it was.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") request.as_ptr(),
            inout("rdx") 0_usize => answer,
            inout("rdi") 0_usize => _,
            options(nostack),
        );
    }
    answer != 0
}

/// The calling thread's block.
#[inline]
pub(crate) fn current() -> usize {
    let base;
    // SAFETY: on x86_64 the first word of the thread control block is its own address (ELF TLS ABI).
    unsafe { asm!("mov {}, fs:0", out(reg) base, options(nostack, readonly, preserves_flags)) };
    base
}

/// Makes `base` the calling thread's block.
///
/// # Safety
/// F1 and F2 of the module above.
#[inline(always)]
pub(super) unsafe fn load(base: usize) {
    // SAFETY: by the caller. No `nomem`: what was written through the old block stays before, what is read through
    // the new one after.
    unsafe { asm!("wrfsbase {}", in(reg) base, options(nostack, preserves_flags)) };
}
