//! Size classes of stack slots, and why a stack can not be had.
//!
//! Used by all that reserves or takes slots.

use super::page::page_size;
use std::fmt;

/// Bytes at the top of each slot that do not count as usable: what the coroutine library and the carrier put
/// there before the first frame of a goroutine.
pub(crate) const HEADER_SHARE: usize = 1024;

const MIN_SLOT: usize = 16 << 10;
const MAX_SLOT: usize = 1 << 30;
/// How many size classes there are: two for each power of two from 16 KiB to 1 GiB, but one for the last.
pub(crate) const CLASSES: usize = 2 * (MAX_SLOT / MIN_SLOT).trailing_zeros() as usize + 1;
/// The guard's share of a slot.
const GUARD_SHARE: usize = 8;
/// The largest guard: as wide as the gap that Linux leaves below a main stack.
const MAX_GUARD: usize = 1 << 20;

/// One of the slot sizes: 4 or 5 times a power of two. The default is the smallest.
///
/// The fifth quarter is for the guard, the header and the thread-local block: whoever asks for a power of two gets a slot that
/// is a quarter larger and not twice as large. Page tables are proportional to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct StackClass(u8);

impl StackClass {
    /// The smallest class whose slots leave at least `usable` bytes to the goroutine.
    pub(crate) fn for_size(usable: usize) -> Result<StackClass, StackError> {
        if usable == 0 {
            return Err(StackError::Zero);
        }
        // The whole slot of none of those before has as many bytes.
        let first = 2 * (usable / MIN_SLOT).checked_ilog2().unwrap_or(0) as usize;
        let fits = |class: &StackClass| class.usable_size() >= usable;
        let max = StackClass::from_index(CLASSES - 1).usable_size();
        (first..CLASSES).map(StackClass::from_index).find(fits).ok_or(StackError::TooLarge { asked: usable, max })
    }

    /// The whole slot, guard and header included.
    pub(crate) fn slot_size(self) -> usize {
        let quarters = 4 + (self.0 & 1) as usize;
        (MIN_SLOT / 4 * quarters) << (self.0 / 2)
    }

    /// The bytes at its low end that fault: a multiple of the page size.
    pub(crate) fn guard_size(self) -> usize {
        let share = self.slot_size() / GUARD_SHARE;
        (share - share % page_size()).clamp(page_size(), MAX_GUARD.max(page_size()))
    }

    /// What a goroutine can use of it. 0: on pages of this size there are no such slots.
    pub(crate) fn usable_size(self) -> usize {
        let whole_pages = self.slot_size().is_multiple_of(page_size());
        if whole_pages { self.slot_size().saturating_sub(self.guard_size() + HEADER_SHARE) } else { 0 }
    }

    /// Below [`CLASSES`]; for tables with an entry per class.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn from_index(index: usize) -> StackClass {
        debug_assert!(index < CLASSES);
        StackClass(index as u8)
    }

    /// The class with slots of this size.
    #[cfg(test)]
    pub(crate) fn of_slot(size: usize) -> StackClass {
        (0..CLASSES).map(StackClass::from_index).find(|class| class.slot_size() == size).expect("a slot size")
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
    /// The guard of a stack could not be made: the process has too many memory mappings.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::errno::errno;
    use crate::base::errno::keeping_errno;

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
        let max = StackClass::of_slot(MAX_SLOT).usable_size();
        let mut asked = 1;
        while asked <= max {
            for asked in [asked - 1, asked, asked + 1, asked * 9 / 8, max] {
                if asked == 0 || asked > max {
                    continue;
                }
                let class = StackClass::for_size(asked).expect("in range");
                assert!(class.usable_size() >= asked, "{asked}: {class:?}");
                assert!(class.index() < CLASSES);
                assert_eq!(StackClass::from_index(class.index()), class);
                if class.index() > 0 {
                    assert!(StackClass::from_index(class.index() - 1).usable_size() < asked);
                }
            }
            asked *= 2;
        }
        assert_eq!(StackClass::for_size(max).map(StackClass::slot_size), Ok(MAX_SLOT));
    }

    #[test]
    fn sizes_out_of_range_are_errors() {
        assert_eq!(StackClass::for_size(0), Err(StackError::Zero));
        let max = StackClass::of_slot(MAX_SLOT).usable_size();
        for asked in [max + 1, MAX_SLOT, usize::MAX] {
            assert_eq!(StackClass::for_size(asked), Err(StackError::TooLarge { asked, max }));
        }
    }

    #[test]
    fn slots_are_whole_pages_and_their_guards_too() {
        let slots: Vec<usize> = (0..CLASSES).map(|index| StackClass::from_index(index).slot_size()).collect();
        assert_eq!((slots[..4].to_vec(), slots[CLASSES - 1]), (vec![16 << 10, 20 << 10, 32 << 10, 40 << 10], MAX_SLOT));
        for class in (0..CLASSES).map(StackClass::from_index).filter(|class| class.usable_size() > 0) {
            let (slot, guard) = (class.slot_size(), class.guard_size());
            assert!(slot.is_multiple_of(page_size()) && guard.is_multiple_of(page_size()), "{class:?}");
            assert!(guard >= page_size() && (guard >= slot / 16 || guard == MAX_GUARD), "{class:?}");
            assert_eq!(class.usable_size() + guard + HEADER_SHARE, slot);
        }
        // A power of two takes a slot that is a quarter larger.
        assert_eq!(StackClass::for_size(1 << 20).map(StackClass::slot_size), Ok(5 << 18));
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
