//! The thread ids of isolated goroutines: the numbers by which libc tells the owners of mutexes apart.
//!
//! [`take`] is for new blocks; a goroutine that locks its thread, or forks, has its thread's id ([`set_locked`],
//! [`become_childs_thread`]).
//!
//! Recursive, error-checking, priority-inheriting and robust mutexes and locks for readers and writers have their owner's
//! thread id in them, also where processes share them. A goroutine that holds one over a wait may go on on another thread,
//! so it can't use its worker's id; its block has a number that is no thread's.
//!
//! * **N1.** No two blocks that exist at the same time in a process have the same number, nor a thread. It is never given
//!   back as long as the block may be loaded, and then used again as late as possible, as the kernel does it.
//! * **N2.** The first [`EACH`] numbers are unique in the system as well (in its pid namespace, as all thread ids are), and
//!   among several copies of this library in one process: they contain the thread id of the starter, a thread that each
//!   process and each copy has for good ([`begin`]). A number beyond those contains an id that is nobody's or a stranger's.
//!   If that one has goroutines, too, numbers can be the same; for two given goroutines, that is one chance in a billion.
//!
//! A number is made of a thread id in the lower [`BITS`] bits, of which no thread id has more, and of 1 to [`EACH`] above
//! them. So it is larger than any thread id, and fits in the bits that a futex word has for it (`FUTEX_TID_MASK`).

use super::fsbase;
use super::layout::{Layout, Robust};
use crate::base::atomics::Lock;
use crate::base::process::PerProcess;
use std::collections::VecDeque;
use std::ptr;

/// `PID_MAX_LIMIT` is 2 to the power of this.
const BITS: u32 = 22;
const THREADS: u32 = 1 << BITS;
/// Numbers for each thread id.
const EACH: u32 = MOST >> BITS;
/// `FUTEX_TID_MASK`.
const MOST: u32 = 0x3FFF_FFFF;

static IDS: PerProcess<Lock<Option<Ids>>> = PerProcess::new();

#[derive(Debug)]
struct Ids {
    /// The thread id that the first numbers contain.
    first: u32,
    /// From one thread id to the next; odd, so that all of them have their turn.
    step: u32,
    /// How many were taken for the first time.
    taken: u32,
    /// Those given back, in this order.
    free: VecDeque<u32>,
}

/// Makes numbers available, once for each process. On a thread that will not end before it (N2).
pub(crate) fn begin() {
    IDS.get(Lock::default).lock().get_or_insert_with(|| Ids::new(this_thread()));
}

fn this_thread() -> u32 {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }.cast_unsigned()
}

/// A number for a new block. Before [`begin`] there is only the self-test, whose thread lives as long as its block.
#[inline(never)]
pub(super) fn take() -> u32 {
    match &mut *IDS.get(Lock::default).lock() {
        Some(ids) => ids.take(),
        None => THREADS | this_thread(),
    }
}

/// From a block that is never loaded again.
#[inline(never)]
pub(super) fn give(id: u32) {
    if let Some(ids) = &mut *IDS.get(Lock::default).lock() {
        ids.give(id);
    }
}

impl Ids {
    fn new(first: u32) -> Ids {
        // Scattered: threads that start one after the other have consecutive ids.
        let step = first.wrapping_mul(0x9E37_79B1) >> (u32::BITS - BITS) | 1;
        Ids { first, step, taken: 0, free: VecDeque::new() }
    }

    fn take(&mut self) -> u32 {
        // All that are unique come first (N2), and by turns.
        if self.taken < EACH || self.free.is_empty() {
            self.taken += 1;
            return self.number(self.taken - 1);
        }
        self.free.pop_front().expect("not empty")
    }

    /// The one that is taken for the first time as the `n`th. There is not the memory for as many blocks as there are numbers.
    fn number(&self, n: u32) -> u32 {
        let thread = self.first.wrapping_add((n / EACH).wrapping_mul(self.step)) % THREADS;
        (n % EACH + 1) << BITS | thread
    }

    /// Which `n` it is.
    fn which(&self, id: u32) -> u32 {
        let steps = (id % THREADS).wrapping_sub(self.first).wrapping_mul(inverse(self.step)) % THREADS;
        steps * EACH + (id >> BITS) - 1
    }

    fn give(&mut self, id: u32) {
        // Else the self-test's.
        if self.which(id) < self.taken {
            self.free.push_back(id);
        }
    }
}

/// The inverse of an odd number, modulo 2 to the power of 32. Each step doubles the number of bits that are right, three at first.
fn inverse(odd: u32) -> u32 {
    (0..4).fold(odd, |x, _| x.wrapping_mul(2_u32.wrapping_sub(odd.wrapping_mul(x))))
}

impl Robust {
    const SIZE: usize = 24;

    /// Where the word is that lies so many bytes after the head's first one.
    fn word(&self, tcb: *mut u8, offset: isize) -> *mut usize {
        tcb.wrapping_offset(self.at + offset).cast()
    }

    /// For a new block, which has the pointers already.
    ///
    /// # Safety
    /// `tcb` is a control block, and the caller's.
    pub(super) unsafe fn create(&self, tcb: *mut u8) {
        // SAFETY: by the caller.
        unsafe { self.word(tcb, 8).write(self.futex_offset) };
    }

    /// Empties it.
    ///
    /// # Safety
    /// The same as for `create`.
    unsafe fn clear(&self, tcb: *mut u8) {
        let head = self.word(tcb, 0);
        // SAFETY: by the caller.
        unsafe {
            self.word(tcb, -8).write(head as usize);
            head.write(head as usize);
            self.word(tcb, 16).write(0);
        }
    }

    /// Tells the kernel that this is the list to look through when the calling thread ends.
    ///
    /// # Safety
    /// `tcb` is a control block that stays until then, or until another one's list is registered.
    unsafe fn register(&self, tcb: *mut u8) {
        // SAFETY: by the caller.
        unsafe { libc::syscall(libc::SYS_set_robust_list, self.word(tcb, 0), Robust::SIZE) };
    }
}

/// Makes a block, whose number is `id`, the calling thread to the kernel, too, or (`false`) itself again. As long as it is, those
/// mutexes are right of which the kernel knows the owner (with priority inheritance, and robust ones). It then does not look
/// through the list of the thread's own block, which pinned goroutines use.
///
/// # Safety
/// The block is the caller's, and was last loaded on the calling thread, whose own block is `home`.
pub(super) unsafe fn set_locked(layout: &Layout, base: usize, id: u32, home: usize, locked: bool) {
    let [tcb, home] = [base, home].map(ptr::with_exposed_provenance_mut::<u8>);
    // SAFETY: by the caller: words of both blocks that only this thread writes. A block that is not locked any more is not
    // registered, and the thread's own stays as long as the thread.
    unsafe {
        let threads = home.add(layout.tid).cast::<u32>().read();
        tcb.add(layout.tid).cast::<u32>().write(if locked { threads } else { id });
        if let Some(robust) = &layout.robust {
            robust.register(if locked { tcb } else { home });
        }
    }
}

/// In the child of a fork by a goroutine with this block, while the thread's own block is loaded: from now on the goroutine is that
/// thread. What it had of the parent's goes.
///
/// # Safety
/// What the first paragraph says is so: the block's goroutine has forked, and this is the child.
pub(super) unsafe fn become_childs_thread(layout: &Layout, base: usize) {
    let tcb = ptr::with_exposed_provenance_mut::<u8>(base);
    let home = ptr::with_exposed_provenance::<u8>(fsbase::current());
    // SAFETY: by the caller: words of both blocks, which are this thread's; the goroutine's block stays until the process ends.
    unsafe {
        tcb.add(layout.tid).cast::<u32>().write(home.add(layout.tid).cast::<u32>().read());
        if let Some(robust) = &layout.robust {
            // The mutexes on it are still the parent's.
            robust.clear(tcb);
            robust.register(tcb);
        }
        if let Some(at) = layout.random_state {
            // glibc takes back the states of threads that are not there. That this one is not among them is not taken for granted.
            tcb.add(at).cast::<usize>().write(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::child;
    use std::collections::HashSet;

    /// Where glibc does not say how its lists of threads are linked, the forked goroutine's block comes with what it had in the
    /// parent. glibc would link what the child locks to the parent's mutexes, which processes may share.
    #[test]
    fn a_forked_goroutine_has_an_empty_list_in_the_child() {
        const NAME: &str = "a_forked_goroutine_has_an_empty_list_in_the_child";
        if !child::is(NAME) {
            return child::passes(module_path!(), NAME, &[]);
        }
        let layout = match crate::tls::layout() {
            Ok(layout) => layout,
            Err(refusal) => {
                assert!(std::env::var_os("GORUN_TEST_COMPLETE").is_none(), "{refusal:?}");
                return;
            }
        };
        let robust = layout.robust.as_ref().expect("this glibc has a list of robust mutexes in the control block");
        // A control block with a list, and there a mutex of the parent's.
        let block = vec![0_usize; layout.tcb_size.div_ceil(size_of::<usize>())].leak();
        let mutex = Vec::leak(vec![0_usize; 2]);
        let tcb = block.as_mut_ptr().cast::<u8>();
        let [last, list, pending] = [-8, 0, 16].map(|offset| robust.word(tcb, offset));
        let (mut registered, mut size) = (0_usize, 0_usize);
        // SAFETY: memory of a control block's size, which stays; no goroutine uses it, and this process is the test's own.
        unsafe {
            let link = mutex.as_mut_ptr().expose_provenance();
            [last, list, pending].into_iter().for_each(|word| word.write(link));
            become_childs_thread(layout, tcb.expose_provenance());
            assert_eq!([list.read(), last.read(), pending.read()], [list as usize, list as usize, 0]);
            libc::syscall(libc::SYS_get_robust_list, 0, &raw mut registered, &raw mut size);
            assert_eq!((registered, size), (list as usize, Robust::SIZE));
            assert_eq!(tcb.add(layout.tid).cast::<u32>().read(), this_thread());
        }
    }

    #[test]
    fn numbers_are_no_thread_ids_fit_and_differ() {
        let mut seen = HashSet::new();
        for first in [1, 2, 3, 4711, THREADS - 1] {
            let mut ids = Ids::new(first);
            for n in 0..EACH {
                let id = ids.take();
                assert!((THREADS..=MOST).contains(&id), "{id:x}");
                assert_eq!(ids.which(id), n);
                assert!(seen.insert(id), "{id:x}");
            }
        }
        let mut ids = Ids::new(4711);
        let all: HashSet<u32> = (0..1_000_000).map(|_| ids.take()).collect();
        assert_eq!(all.len(), 1_000_000);
        assert!(all.iter().all(|id| ids.which(*id) < 1_000_000));
    }

    #[test]
    fn numbers_that_are_given_back_are_used_again_as_late_as_possible() {
        let mut ids = Ids::new(7);
        let first = ids.take();
        ids.give(first);
        for _ in 1..EACH {
            let id = ids.take();
            assert_ne!(id, first);
            ids.give(id);
        }
        assert_eq!(ids.take(), first);
        assert_eq!(ids.taken, EACH);
        // Not one of those, or not taken yet.
        let length = ids.free.len();
        ids.give(THREADS | 8);
        ids.give(ids.number(EACH));
        assert_eq!(ids.free.len(), length);
    }
}
