//! Hints to the processor: what will be touched soon is fetched while something else is done.
//!
//! For goroutines that nobody has looked at for long and that are taken up one after the other: what a turn of each touches
//! lies in some thirty cache lines, most of them on a page of its own, and each would be a miss that the next one waits
//! for. Given by `timers` and `worker` for those that are woken by a timer, by `cache` for the stack that is taken next, by
//! the thread-local block and the carrier for what belongs to them.
//!
//! A hint does nothing but that: the address may be anything. Far ahead is as bad as not at all, as each goroutine's lines
//! compete with all others' same ones: the first-level cache holds those of a dozen.

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Fetches `n` cache lines from that of `at` on.
#[inline(always)]
pub(crate) fn lines<T>(at: *const T, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for i in 0..n {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast::<i8>().wrapping_add(LINE * i)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, n);
}
