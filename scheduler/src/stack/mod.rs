//! Stacks: where they come from, what fences them off, and what happens when one overflows.
//!
//! Called by `spawn` ([`reserve`]), by the carriers ([`take`], [`give_back`]) and by the runtime's start-up
//! ([`install_overflow_report`]). One set of arenas for the whole process, shared by all runtimes; nothing in it is ever
//! unmapped, so an address that was once a stack stays one.
//!
//! ```text
//!  limit       base                                               top
//!    │ guard page │ usable, grows down from the top ◀───── header  │ next slot's limit
//!    └────────────┴─────────────────────────────────────────────────┘ slot_size() = a power of two
//! ```
//!
//! * **S1, chunks live for ever.** A mapped chunk is never unmapped once it is published, moved or given to
//!   another class.
//! * **S2, one owner.** A [`Slot`] is not `Copy`: whoever holds it owns `limit..top`; the arena holds the rest.
//! * **S3, guarded before it is seen.** No `Slot` leaves the arena before its guard page is in place, and the
//!   guard stays for ever ([`give_back`] never touches it).
//!
//! This module does not switch stacks and does not know what a goroutine is.

mod arena;
mod executable;
mod guard;
mod headroom;
mod overflow;

#[cfg(test)]
pub(crate) use arena::take_many;
pub(crate) use arena::{ArenaLocks, Slot, give_back, lock_arenas, reserve, slot_of, take, unreserve};
pub(crate) use guard::{came_late as guards_came_late, guards_need_mappings, page_size};
pub(crate) use overflow::{Report, ensure_alt_stack, install as install_overflow_report, set_describe};

use std::fmt;

/// Bytes at the top of each slot that do not count as usable: what the coroutine library and the carrier put
/// there before the first frame of a goroutine.
pub(crate) const HEADER_SHARE: usize = 1024;

const MIN_SHIFT: u32 = 14;
const MAX_SHIFT: u32 = 30;
/// How many size classes there are: 16 KiB to 1 GiB.
pub(crate) const CLASSES: usize = (MAX_SHIFT - MIN_SHIFT + 1) as usize;

/// One of the slot sizes: the power of two 2^(14 + n). The default is the smallest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StackClass(u8);

impl StackClass {
    /// The smallest class whose slots leave at least `usable` bytes to the goroutine.
    pub(crate) fn for_size(usable: usize) -> Result<StackClass, StackError> {
        if usable == 0 {
            return Err(StackError::Zero);
        }
        let overhead = page_size() + HEADER_SHARE;
        let max = (1 << MAX_SHIFT) - overhead;
        if usable > max {
            return Err(StackError::TooLarge { asked: usable, max });
        }
        let shift = (usable + overhead).next_power_of_two().trailing_zeros();
        Ok(StackClass((shift.max(MIN_SHIFT) - MIN_SHIFT) as u8))
    }

    /// The class whose whole slot, guard page and header included, is the smallest power of two not below
    /// `slot`: for a default that names the slot and not the usable part.
    #[cfg(test)]
    pub(crate) fn for_slot(slot: usize) -> Result<StackClass, StackError> {
        match slot.checked_sub(page_size() + HEADER_SHARE) {
            None | Some(0) => StackClass::for_size(slot),
            Some(usable) => StackClass::for_size(usable),
        }
    }

    /// The whole slot, guard page and header included.
    pub(crate) fn slot_size(self) -> usize {
        1 << self.shift()
    }

    /// What a goroutine can use of it.
    pub(crate) fn usable_size(self) -> usize {
        self.slot_size() - page_size() - HEADER_SHARE
    }

    fn shift(self) -> u32 {
        u32::from(self.0) + MIN_SHIFT
    }

    /// Below [`CLASSES`]; for tables with an entry per class.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    fn from_index(index: usize) -> StackClass {
        debug_assert!(index < CLASSES);
        StackClass(index as u8)
    }
}

/// Why there is no stack of the size asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StackError {
    /// A stack of no bytes was asked for.
    Zero,
    /// More was asked for than the largest size class holds.
    TooLarge {
        /// The bytes asked for.
        asked: usize,
        /// The most that can be asked for.
        max: usize,
    },
    /// The operating system gave no more address space.
    AddressSpace {
        /// The bytes of address space asked for.
        asked: usize,
        /// What `mmap` said.
        errno: i32,
    },
    /// The guard page of a stack could not be made: the process has too many memory mappings.
    Mappings {
        /// What `mprotect` said.
        errno: i32,
    },
    /// No memory for a goroutine's thread-local block.
    Block,
    /// The table of stack chunks is full.
    TooManyChunks {
        /// How many it holds.
        max: usize,
    },
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            StackError::Zero => f.write_str("a stack size of 0 bytes was asked for; ask for at least 1"),
            StackError::TooLarge { asked, max } => write!(
                f,
                "a stack of {asked} bytes was asked for, but the most is {max}; \
                 keep large data on the heap, or grow in several steps"
            ),
            StackError::AddressSpace { asked, errno } => write!(
                f,
                "no address space for goroutine stacks: mapping {asked} bytes failed (os error {errno}); \
                 raise RLIMIT_AS and RLIMIT_DATA (ulimit -v, ulimit -d), set vm.overcommit_memory to 0 or 1, \
                 or use smaller stacks or fewer goroutines at a time"
            ),
            StackError::Mappings { errno } => write!(
                f,
                "no guard page for a goroutine stack: the process has too many memory mappings (os error {errno}); \
                 without MADV_GUARD_INSTALL (Linux 6.13) each stack needs two: raise the limit, \
                 for example sysctl -w vm.max_map_count=1048576, and restart, or use fewer goroutines at a time"
            ),
            StackError::Block => f.write_str("no memory for a goroutine's thread-local block"),
            StackError::TooManyChunks { max } => write!(
                f,
                "goroutine stacks already lie in {max} separate chunks, the most there can be; \
                 use fewer different stack sizes, or fewer goroutines at a time"
            ),
        }
    }
}

impl std::error::Error for StackError {}

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

/// Runs one test of this binary again in a process of its own.
#[cfg(test)]
pub(crate) mod child {
    use std::process::{Command, Output};

    const MARK: &str = "GORUN_TEST_CHILD";

    /// Whether this process is such a child, running `test`.
    pub(crate) fn is(test: &str) -> bool {
        if std::env::var(MARK).is_ok_and(|t| t == test) {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: `none` outlives the call. A child that crashes on purpose leaves no core file.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
            return true;
        }
        false
    }

    /// Runs `test` of the module `module` (`module_path!()`) in a child that [`is`] one.
    pub(crate) fn run(module: &str, test: &str, env: &[(&str, &str)]) -> Output {
        let (_, inside) = module.split_once("::").expect("a path below the crate");
        Command::new(std::env::current_exe().expect("own path"))
            .args([&format!("{inside}::{test}"), "--exact", "--nocapture", "--test-threads=1"])
            .env(MARK, test)
            .envs(env.iter().copied())
            .output()
            .expect("child starts")
    }

    /// Runs it and insists that the one test ran and passed.
    pub(crate) fn passes(module: &str, test: &str, env: &[(&str, &str)]) {
        let out = run(module, test, env);
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("1 passed"), "{out:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn errno_is_kept() {
        // SAFETY: there is no such descriptor.
        let fail = || unsafe { libc::close(-1) };
        fail();
        assert_eq!(errno(), libc::EBADF);
        // SAFETY: no such file is opened.
        keeping_errno(|| assert_eq!(unsafe { libc::open(c"/does/not/exist".as_ptr(), 0) }, -1));
        assert_eq!(errno(), libc::EBADF);
    }

    #[test]
    fn sizes_leave_at_least_what_was_asked_and_no_smaller_class_would() {
        let max = (1usize << MAX_SHIFT) - page_size() - HEADER_SHARE;
        let mut asked = 1;
        while asked <= max {
            for asked in [asked - 1, asked, asked + 1, max] {
                if asked == 0 {
                    continue;
                }
                let class = StackClass::for_size(asked).expect("in range");
                assert!(class.usable_size() >= asked, "{asked}: {class:?}");
                assert!(class.index() < CLASSES);
                assert_eq!(StackClass::from_index(class.index()), class);
                if class.index() > 0 && class.slot_size() / 2 > page_size() + HEADER_SHARE {
                    assert!(StackClass::from_index(class.index() - 1).usable_size() < asked);
                }
            }
            asked *= 2;
        }
        assert_eq!(StackClass::for_size(max).map(StackClass::slot_size), Ok(1 << 30));
    }

    #[test]
    fn sizes_out_of_range_are_errors() {
        assert_eq!(StackClass::for_size(0), Err(StackError::Zero));
        for asked in [1 << 30, usize::MAX] {
            let max = (1 << 30) - page_size() - HEADER_SHARE;
            assert_eq!(StackClass::for_size(asked), Err(StackError::TooLarge { asked, max }));
        }
    }

    #[test]
    fn a_slot_size_names_the_slot() {
        for shift in 18..=MAX_SHIFT {
            assert_eq!(StackClass::for_slot(1 << shift).map(StackClass::slot_size), Ok(1 << shift));
        }
        assert_eq!(StackClass::for_slot(0), Err(StackError::Zero));
        assert!(StackClass::for_slot(1).is_ok());
        assert!(StackClass::for_slot((1 << 30) + 1).is_err());
    }

    #[test]
    fn errors_say_what_to_do() {
        let says = |e: StackError, words: &[&str]| {
            let text = e.to_string();
            words.iter().for_each(|w| assert!(text.contains(w), "{text}: {w}"));
        };
        says(StackError::TooLarge { asked: 77, max: 55 }, &["77", "55", "heap"]);
        says(StackError::AddressSpace { asked: 77, errno: 12 }, &["77", "12", "RLIMIT_AS", "vm.overcommit_memory"]);
        says(StackError::Mappings { errno: 12 }, &["12", "vm.max_map_count=", "6.13"]);
        says(StackError::TooManyChunks { max: 77 }, &["77", "fewer"]);
        says(StackError::Zero, &["0 bytes", "at least 1"]);
    }
}
