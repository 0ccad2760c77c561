//! Guards: pages at the low end of each slot that fault when they are touched.
//!
//! Called by `arena` only, once for each slot, before the slot is first handed out (S3).
//!
//! * **G1, no mapping of its own.** Where the kernel has `MADV_GUARD_INSTALL` (Linux 6.13) a guard is a marker
//!   in the page table, survives `MADV_DONTNEED` and fork, and costs no mapping.
//! * **G2, the fallback leaves room.** `mprotect` splits the mapping: two more for each stack. It is refused
//!   before the process is at `vm.max_map_count`, because past that point every allocator and thread start
//!   in the process would fail too.
//!
//! * **G3, a late refusal.** A seccomp filter may refuse later what the kernel grants when it is first asked. From then on
//!   it is as on an old kernel ([`came_late`]); goroutines that have a reservation, but no stack yet, may find that there is
//!   none, and wait until others have ended (`worker`).
//!
//! `GORUN_NO_GUARD_INSTALL=1` forces the fallback. It is internal, for tests, and may change at any time.

use super::class::StackError;
use super::page::page_size;
use crate::base::errno::errno;
use crate::base::process::once;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// `MADV_GUARD_INSTALL` of Linux's `mman-common.h`.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Guards made with `mprotect` so far. Relaxed: a count, it guards no data.
static SPLITS: AtomicUsize = AtomicUsize::new(0);
/// `vm.max_map_count`; 0 = not read yet. Relaxed: all threads would write the same.
static MAPPING_LIMIT: AtomicUsize = AtomicUsize::new(0);

/// G3. Relaxed: it only becomes true, and is looked at again and again.
static CAME_LATE: AtomicBool = AtomicBool::new(false);

/// Returns true if each guard costs two memory mappings, so that `take` can run out of them although
/// `reserve` succeeded.
#[inline]
pub(crate) fn guards_need_mappings() -> bool {
    static FALLBACK: OnceLock<bool> = OnceLock::new();
    let from_the_start = once(&FALLBACK, || {
        std::env::var_os("GORUN_NO_GUARD_INSTALL").is_some_and(|v| v == "1") || !kernel_has_guards()
    });
    *from_the_start || came_late()
}

/// G3: whether that was not so at the start, and there may be goroutines with a reservation for which there is no stack.
pub(crate) fn came_late() -> bool {
    CAME_LATE.load(Relaxed)
}

fn kernel_has_guards() -> bool {
    let len = page_size();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping at an address of the kernel's choice; used and unmapped here only.
    unsafe {
        let page = libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if page == libc::MAP_FAILED {
            return false;
        }
        let works = libc::madvise(page, len, MADV_GUARD_INSTALL) == 0;
        libc::munmap(page, len);
        works
    }
}

/// Makes the `len` bytes from `limit` on fault for ever.
///
/// # Safety
/// They are the first pages of a slot of a live chunk (S1) that nobody else holds (S2).
pub(super) unsafe fn install(limit: usize, len: usize) -> Result<(), StackError> {
    let at = ptr::with_exposed_provenance_mut::<libc::c_void>(limit);
    if !guards_need_mappings() {
        // SAFETY: by this function's contract nothing lives in these pages.
        if unsafe { libc::madvise(at, len, MADV_GUARD_INSTALL) } == 0 {
            return Ok(());
        }
        // Refused for this mapping only (one locked by mlockall, say), or from now on for all.
        if !kernel_has_guards() {
            CAME_LATE.store(true, Relaxed); // see CAME_LATE
        }
    }
    // SAFETY: as above; the contract is passed on.
    unsafe { split_slow(at, len) }
}

/// # Safety
/// As [`install`].
#[cold]
unsafe fn split_slow(at: *mut libc::c_void, len: usize) -> Result<(), StackError> {
    // Relaxed, here and below: see SPLITS.
    if !fits(SPLITS.fetch_add(1, Relaxed), mapping_limit()) {
        SPLITS.fetch_sub(1, Relaxed);
        return Err(StackError::Mappings { errno: libc::ENOMEM });
    }
    // SAFETY: by the contract nothing lives in these pages.
    if unsafe { libc::mprotect(at, len, libc::PROT_NONE) } != 0 {
        let errno = errno();
        SPLITS.fetch_sub(1, Relaxed); // as above
        return Err(StackError::Mappings { errno });
    }
    Ok(())
}

/// Returns true if one guard more than `splits` leaves a sixteenth of the process's mappings to everybody else (G2).
fn fits(splits: usize, limit: usize) -> bool {
    (splits + 1).saturating_mul(2) <= limit - limit / 16
}

fn mapping_limit() -> usize {
    match MAPPING_LIMIT.load(Relaxed) {
        0 => {
            let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
            let limit = text.trim().parse().unwrap_or(usize::MAX);
            MAPPING_LIMIT.store(limit, Relaxed); // see MAPPING_LIMIT
            limit
        }
        limit => limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::child;
    use crate::memory::{Slot, StackClass, give_back, reserve, take, take_many, unreserve};

    #[test]
    fn the_fallback_leaves_a_sixteenth() {
        assert!(fits(0, 1600) && fits(749, 1600));
        assert!(!fits(750, 1600) && !fits(usize::MAX / 2, 1600));
        assert!(fits(1 << 40, usize::MAX));
    }

    #[test]
    fn detection_agrees_with_the_environment() {
        if child::is("detection_agrees_with_the_environment") {
            assert!(guards_need_mappings());
            return;
        }
        let forced = std::env::var("GORUN_NO_GUARD_INSTALL").is_ok_and(|v| v == "1");
        assert_eq!(guards_need_mappings(), forced || !kernel_has_guards());
        let env = [("GORUN_NO_GUARD_INSTALL", "1")];
        child::passes(module_path!(), "detection_agrees_with_the_environment", &env);
    }

    #[test]
    fn too_few_mappings_are_an_error_and_not_a_crash() {
        if !child::is("too_few_mappings_are_an_error_and_not_a_crash") {
            let env = [("GORUN_NO_GUARD_INSTALL", "1")];
            child::passes(module_path!(), "too_few_mappings_are_an_error_and_not_a_crash", &env);
            return;
        }
        MAPPING_LIMIT.store(1600, Relaxed);
        let class = StackClass::for_size(1).expect("smallest");
        reserve(class, 1000).expect("only address space");
        let mut slots: Vec<Slot> = Vec::new();
        let error = loop {
            match take(class) {
                Ok(slot) => slots.push(slot),
                Err(error) => break error,
            }
        };
        assert_eq!(error, StackError::Mappings { errno: libc::ENOMEM });
        assert_eq!(slots.len(), 750);
        // One given back can be had again: its guard is there already.
        let top = slots.last().expect("many").top();
        give_back(slots.pop().expect("many"), false);
        let again = take(class).expect("guarded already");
        assert_eq!(again.top(), top);
        slots.push(again);
        // All or nothing, and what failed is not lost.
        give_back(slots.pop().expect("many"), true);
        let before = slots.len();
        assert_eq!(take_many(class, 2, &mut slots), Err(StackError::Mappings { errno: libc::ENOMEM }));
        assert_eq!(slots.len(), before);
        MAPPING_LIMIT.store(usize::MAX, Relaxed);
        take_many(class, 1000 - before, &mut slots).expect("room again");
        assert_eq!(slots.len(), 1000);
        // The same 1000 slots: none was lost, and so no second chunk was needed.
        let mut tops: Vec<usize> = slots.iter().map(|s| s.top().addr()).collect();
        tops.sort_unstable();
        assert!(tops.windows(2).all(|two| two[1] - two[0] == class.slot_size()));
        slots.into_iter().for_each(|s| give_back(s, true));
        unreserve(class, 1000);
    }
}
