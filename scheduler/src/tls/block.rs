//! One goroutine's thread-local block: made in its stack slot, loaded by its worker, cleaned when it ends.
//!
//! Made by `coroutine`; [`Loaded`] is the worker's. The invariants F1 to F4 are in the module above.

use super::fsbase;
use super::layout::{KEY_BLOCKS, KeyData, Layout, MOST_CARRIED, Symbols};
use super::modules::{self, Modules};
use super::{hash_keys, random_state, thread_ids};
use crate::base::prefetch;
use crate::memory::{page_size, slot_of};
use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr;
#[cfg(test)]
use std::sync::atomic::Ordering;

/// Words of the control block that are the process's: those after the self pointer, with the stack and pointer guards.
const COMMON_WORDS: std::ops::RangeInclusive<usize> = 3..=16;
/// `multiple_threads`, 32 bits: malloc and stdio leave out their locks where it is 0.
const MULTIPLE_THREADS: usize = 24;
/// A field of the rseq area, and `RSEQ_CPU_ID_REGISTRATION_FAILED` for it: the kernel knows the thread's own area only. So
/// glibc's `sched_getcpu` and others ask the kernel, and a restartable sequence finds out that it is none.
pub(super) const RSEQ_CPU_ID: isize = 4;
pub(super) const RSEQ_UNREGISTERED: i32 = -2;

/// Lies below the segments of a goroutine's block.
#[repr(C)]
struct Own {
    /// Its number as a thread (`thread_ids`).
    id: u32,
    /// The block of the thread on which it is loaded.
    home: usize,
}

/// What every switch touches lies on one page with the frames that follow below: the segments, and of the control block
/// this much. The rest of it lies on the page above, which is hardly ever looked at.
const HEAD: usize = 128;
/// Cache lines below a control block that are fetched ahead: libc's segment and the program's, if it has no large ones.
const NEAR: usize = 9;
/// `PTHREAD_DESTRUCTOR_ITERATIONS`.
const KEY_ROUNDS: usize = 4;

/// How many rounds of pthread keys' destructors are left to one goroutine.
#[derive(Debug)]
pub(crate) struct KeyRounds(usize);

impl KeyRounds {
    /// As many as a thread has.
    pub(crate) fn new() -> KeyRounds {
        KeyRounds(KEY_ROUNDS)
    }
}

/// In the vector of segments: not allocated.
const UNALLOCATED: usize = usize::MAX;

/// The kernel's number of a thread that gets no blocks.
#[cfg(test)]
pub(crate) static REFUSED_TO: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(0);

/// A thread-local block. Whoever holds it owns the memory, as part of a stack slot.
#[derive(Debug)]
pub(crate) struct Block {
    tcb: *mut u8,
    /// How libraries were when it was made.
    modules: &'static Modules,
}

impl Layout {
    /// Bytes below `top` that a block takes, at most.
    pub(crate) fn room(&self) -> usize {
        self.static_size + size_of::<Own>() + self.align + 64 + page_size()
    }

    /// From a control block down to the lowest of its segments.
    fn below(&self) -> usize {
        (self.static_size - self.tcb_size).next_multiple_of(64)
    }

    /// Where a goroutine's block has its [`home_of`], from its control block.
    #[inline(always)]
    fn home_at(&self) -> isize {
        self.own_at() + offset_of!(Own, home).cast_signed()
    }

    /// Where it has its [`Own`].
    #[inline(always)]
    fn own_at(&self) -> isize {
        -((self.below() + size_of::<Own>()).cast_signed())
    }

    fn at(&self, tcb: *mut u8, offset: isize) -> *mut usize {
        tcb.wrapping_offset(offset).cast()
    }
}

impl Block {
    /// Makes a block at the top of `low..top`, which is a goroutine's stack, zeroed or not. `None`: no memory for the
    /// vector of its segments. Returns the lowest address in use, too.
    ///
    /// # Safety
    /// `low..top` is the caller's, mapped, and larger than [`Layout::room`].
    pub(crate) unsafe fn create(layout: &Layout, low: *mut u8, top: *mut u8) -> Option<(Block, *mut u8)> {
        #[cfg(test)]
        // SAFETY: no preconditions.
        if REFUSED_TO.load(Ordering::SeqCst) == unsafe { libc::gettid() } {
            return None;
        }
        let tcb = top.wrapping_sub(layout.tcb_size);
        let tcb = match layout.align {
            align if align <= HEAD => tcb.wrapping_sub((tcb as usize + HEAD) % page_size()),
            align => tcb.wrapping_sub(tcb as usize % align),
        };
        let bottom = tcb.wrapping_sub(layout.below());
        // Before the loader initialises the segments: what is loaded after this makes the block stale.
        let modules = modules::up_to_date(layout);
        // SAFETY: all within `low..top`, which is ours. As pthread_create does it: a zeroed control block, the loader
        // puts in the vector and initialises the segments, then the fields.
        unsafe {
            // The reserve of the segments as well: a library loaded later gets its place there (`modules`).
            ptr::write_bytes(bottom, 0, top as usize - bottom as usize);
            if (layout.symbols.allocate_tls)(tcb.cast::<c_void>()).is_null() {
                return None;
            }
            let mine = ptr::with_exposed_provenance::<usize>(fsbase::current());
            for word in COMMON_WORDS {
                tcb.cast::<usize>().add(word).write(mine.add(word).read());
            }
            tcb.add(MULTIPLE_THREADS).cast::<u32>().write(1);
            for &(at, what) in &layout.self_pointers {
                layout.at(tcb, at).write(tcb as usize + what);
            }
            layout.at(tcb, layout.stack_address.cast_signed()).write(low as usize);
            layout.at(tcb, layout.stack_size.cast_signed()).write(top as usize - low as usize);
            let id = thread_ids::take();
            tcb.add(layout.tid).cast::<u32>().write(id);
            tcb.offset(layout.own_at()).cast::<Own>().write(Own { id, home: 0 });
            if let Some(robust) = &layout.robust {
                robust.create(tcb);
            }
            if let Some(list) = layout.list {
                // F5 in `fork`: a list with nobody else in it.
                tcb.add(list).cast::<[usize; 2]>().write([tcb as usize + list; 2]);
            }
            if let Some(at) = layout.random_state {
                tcb.add(at).cast::<usize>().write(random_state::take());
            }
            if let Some(rseq) = layout.rseq {
                tcb.offset(rseq + RSEQ_CPU_ID).cast::<i32>().write(RSEQ_UNREGISTERED);
            }
        }
        Some((Block { tcb, modules }, bottom.wrapping_sub(size_of::<Own>())))
    }

    /// Frees what the block has outside of its slot. In a thread that has its own block loaded.
    ///
    /// # Safety
    /// F1: it is not loaded, and never used again.
    pub(crate) unsafe fn destroy(&self, layout: &Layout) {
        // SAFETY: by the caller. Level 0 of the key table is in the block itself.
        unsafe {
            self.end(layout);
            for level in 1..KEY_BLOCKS {
                libc::free(self.key_block(layout, level).cast());
            }
            if let Some(at) = layout.random_state {
                random_state::give(self.tcb.add(at).cast::<usize>().read());
            }
            thread_ids::give(self.own(layout).read().id);
            (layout.symbols.deallocate_tls)(self.tcb.cast(), false);
        }
    }

    /// The destructors once more, with the block loaded: the worker's loop allocates with whatever block it has, also
    /// that of a goroutine that has ended. An allocator that has a list of its threads (jemalloc) would keep the block in
    /// it, and find something else there later. F2: a function of its own, which touches no thread-local.
    #[inline(never)]
    unsafe fn end(&self, layout: &Layout) {
        let mut loaded = Loaded::new(Some(layout));
        // SAFETY: F1: by the caller; the other one is the thread's own.
        unsafe {
            loaded.switch(self.base());
            self.run_destructors(layout, &mut KeyRounds::new());
            let home = loaded.home();
            loaded.switch(home);
        }
    }

    /// The FS base.
    pub(crate) fn base(&self) -> usize {
        self.tcb as usize
    }

    fn own(&self, layout: &Layout) -> *mut Own {
        self.tcb.wrapping_offset(layout.own_at()).cast()
    }

    /// See [`thread_ids::set_locked`].
    ///
    /// # Safety
    /// The same as there.
    #[cold]
    pub(crate) unsafe fn set_locked(&self, layout: &Layout, locked: bool) {
        // SAFETY: by the caller; `switch` has left the home there.
        unsafe {
            let Own { id, home } = self.own(layout).read();
            thread_ids::set_locked(layout, self.base(), id, home, locked);
        }
    }

    /// Has the processor fetch what a first turn touches of it.
    #[inline]
    pub(crate) fn fetch(&self) {
        prefetch::lines(self.tcb, 1);
        prefetch::lines(self.tcb.wrapping_sub(NEAR * prefetch::LINE), NEAR / 2 + 1);
    }

    /// The same for a later one, and for the end that may come with it.
    #[inline]
    pub(crate) fn fetch_more(&self, layout: &Layout) {
        prefetch::lines(self.tcb.wrapping_sub(NEAR * prefetch::LINE), NEAR + 1);
        prefetch::lines(self.tcb.wrapping_add(layout.specific_used), 1);
    }

    /// The first thing that each goroutine does in its block: libc classifies characters by the locale that is in force now.
    pub(crate) fn begin(&self, layout: &Layout) {
        debug_assert_eq!(fsbase::current(), self.base());
        // SAFETY: the function of this name, which takes nothing.
        unsafe { (layout.symbols.ctype_init)() };
    }

    /// F3, first half: runs the destructors of thread-locals, then those of pthread keys. They may suspend. A key whose
    /// destructor sets it again and again is given up after `rounds`, as a thread's is.
    ///
    /// # Safety
    /// The block is the running goroutine's, and its frames use no thread-local with a destructor any more.
    pub(crate) unsafe fn run_destructors(&self, layout: &Layout, rounds: &mut KeyRounds) {
        // SAFETY: by the caller; the flag is a byte of the control block.
        unsafe {
            (layout.symbols.call_tls_dtors)();
            while *self.tcb.add(layout.specific_used) != 0 {
                let runs = rounds.0 > 0;
                rounds.0 -= usize::from(runs);
                self.end_keys(layout, runs);
                // What a key's destructor was the first to use: `reset` would make it look unused.
                (layout.symbols.call_tls_dtors)();
            }
        }
    }

    /// One round of what pthread_exit does with the values of keys: takes them all away, and runs their destructors, or
    /// does not.
    #[cold]
    unsafe fn end_keys(&self, layout: &Layout, runs: bool) {
        let Symbols { keys, .. } = layout.symbols;
        // SAFETY: the block is ours. A destructor is called with its own key's value, which a newer key of the same
        // number (another `seq`) does not get.
        unsafe {
            *self.tcb.add(layout.specific_used) = 0;
            for level in 0..KEY_BLOCKS {
                let values = self.key_block(layout, level);
                for i in (0..KEY_BLOCKS).take_while(|_| !values.is_null()) {
                    let value = values.add(i);
                    let data = ptr::replace(&raw mut (*value).data, ptr::null_mut());
                    let key = keys.add(level * KEY_BLOCKS + i);
                    if runs
                        && !data.is_null()
                        && (*value).seq == (*key).seq
                        && let Some(destructor) = (*key).destructor
                    {
                        destructor(data);
                    }
                }
            }
        }
    }

    fn key_block(&self, layout: &Layout, level: usize) -> *mut KeyData {
        // SAFETY: the table of pointers is in the control block.
        unsafe { self.tcb.add(layout.specific).cast::<*mut KeyData>().add(level).read() }
    }

    /// F3, second half: every library's segment but libc's as in a new thread, and of libc's state the locale, the loader's
    /// message, and whether and how one can be canceled. std's hash keys stay.
    ///
    /// # Safety
    /// The block is loaded, and the running goroutine's; no thread-local of it is borrowed, and none has a destructor that has
    /// not run.
    #[inline(never)]
    pub(crate) unsafe fn reset(&self, layout: &Layout) {
        let keys = layout.hash_keys.map(|at| layout.at(self.tcb, at).cast::<hash_keys::Keys>());
        // SAFETY: words of one of the segments.
        let kept = keys.map(|keys| unsafe { keys.read() });
        for segment in &self.modules.segments {
            // SAFETY: M2: the segment's place in the block.
            unsafe { segment.initial.write(self.tcb.sub(segment.below)) };
        }
        for library in &self.modules.on_demand {
            let place = self.segment(library.id);
            if place != UNALLOCATED
                && let Some(initial) = self.modules.initial_of(library)
            {
                // SAFETY: M3: this library's segment in the block, which libc frees with the block.
                unsafe { initial.write(ptr::with_exposed_provenance_mut(place)) };
            }
        }
        if let (Some(keys), Some(kept)) = (keys, kept) {
            // SAFETY: as above; the words are as their thread-local had them, which has no destructor.
            unsafe { keys.write(kept) };
        }
        // SAFETY: a word of libc's segment.
        if layout.load_error.is_some_and(|at| unsafe { layout.at(self.tcb, at).read() } != 0) {
            forget_load_error();
        }
        if let Some(bits) = layout.cancel {
            let word = layout.at(self.tcb, bits.at);
            // SAFETY: a word of the control block, which nobody else writes.
            unsafe {
                if word.read() & bits.mask != bits.usual {
                    word.write(word.read() & !bits.mask | bits.usual);
                }
            }
        }
        let (at, usual) = layout.locale;
        // SAFETY: a word of libc's segment.
        if unsafe { layout.at(self.tcb, at).read() } != usual {
            // SAFETY: as above; then the tables are those of the usual locale.
            unsafe {
                layout.at(self.tcb, at).write(usual);
                (layout.symbols.ctype_init)();
            }
        }
    }

    /// Returns true if it can't be used again: it has segments that [`Block::reset`] can't reset. Those are of libraries loaded
    /// after it was made, and such as were allocated on demand and are not known. (If another goroutine came to know one of those
    /// between our `reset` and this, the library has been unloaded: nobody uses what it left, by M3.) A library that was unloaded
    /// leaves nothing but bytes of the reserve, or memory that the loader frees.
    ///
    /// The vector's generation, which says that it has changed, need not be compared: it lies in a cache line of its own,
    /// and changes by loading, which the list notices, and by unloading.
    pub(crate) fn is_stale(&self) -> bool {
        let on_demand = &self.modules.on_demand;
        !self.modules.is_up_to_date()
            || on_demand.iter().any(|library| self.segment(library.id) != UNALLOCATED && !library.is_known())
    }

    /// Where a library's segment is, by the vector of segments: a pair of words, the first of which says that, for each
    /// library after one for the generation.
    fn segment(&self, id: usize) -> usize {
        // SAFETY: the second word of a control block points at the vector (ELF TLS ABI); before it is the number of pairs
        // there are. (Libraries that were known when the block was made may have been unloaded before.)
        unsafe {
            let vector = *self.tcb.cast::<*const usize>().add(1);
            if id > vector.sub(2).read() { UNALLOCATED } else { vector.add(2 * id).read() }
        }
    }
}

/// The message of the last failed `dlopen` or `dlsym`, which is for the goroutine that failed, and memory of its block's: asked
/// for, then freed.
#[cold]
#[inline(never)]
pub(super) fn forget_load_error() {
    // SAFETY: no preconditions; what they return is not used.
    unsafe {
        libc::dlerror();
        libc::dlerror();
    }
}

/// If `base` is loaded and a goroutine's block: the own block of the thread on which it is.
pub(super) fn home_of(base: usize) -> Option<usize> {
    let layout = super::verdict::layout_if_known()?;
    // Ours lie in our stacks, and no thread's does, another copy's of this library included.
    slot_of(base)?;
    // SAFETY: the block is a goroutine's; below its segments `switch` has left the thread's own block.
    let home = unsafe { ptr::with_exposed_provenance::<usize>(base.wrapping_add_signed(layout.home_at())).read() };
    // Or it has become a thread's.
    (home != 0).then_some(home)
}

/// In the child of a fork: the loaded block, a goroutine's, is the thread's own from now on (F5 in `fork`).
pub(super) fn become_own(layout: &Layout, base: usize) {
    // SAFETY: as in `home_of`; the block is this thread's.
    unsafe { ptr::with_exposed_provenance_mut::<usize>(base.wrapping_add_signed(layout.home_at())).write(0) };
}

/// Which block a worker's thread has loaded now. The only place that changes it.
#[derive(Debug)]
pub(crate) struct Loaded {
    now: usize,
    /// The thread's own.
    home: usize,
    /// [`Layout::home_at`].
    home_at: isize,
    carried: [isize; MOST_CARRIED],
    carries: usize,
}

impl Loaded {
    /// For a worker's thread, which has its own block loaded.
    pub(crate) fn new(layout: Option<&Layout>) -> Loaded {
        let home = fsbase::current();
        let mut this = Loaded { now: home, home, home_at: 0, carried: [0; MOST_CARRIED], carries: 0 };
        if let Some(layout) = layout {
            this.home_at = layout.home_at();
            this.carries = layout.carried.len();
            this.carried[..this.carries].copy_from_slice(&layout.carried);
        }
        this
    }

    /// For a thread whose own block is `home`, and that has a goroutine's loaded.
    pub(super) fn away_from(layout: &Layout, home: usize) -> Loaded {
        Loaded { home, ..Loaded::new(Some(layout)) }
    }

    /// The thread's own block.
    pub(crate) fn home(&self) -> usize {
        self.home
    }

    /// Loads `base`, if it is not loaded already.
    ///
    /// # Safety
    /// F1: the block is the caller's; the one that was loaded is still the caller's, too. F2.
    #[inline(always)]
    pub(crate) unsafe fn switch(&mut self, base: usize) {
        if base == self.now {
            return;
        }
        // SAFETY: by the caller; F4: words of both blocks' libc segments. A block other than the thread's own is a
        // goroutine's, which has a word for its home.
        unsafe {
            if base != self.home {
                ptr::with_exposed_provenance_mut::<usize>(base.wrapping_add_signed(self.home_at)).write(self.home);
            }
            for at in &self.carried[..self.carries] {
                let word = ptr::with_exposed_provenance::<usize>(self.now.wrapping_add_signed(*at)).read();
                ptr::with_exposed_provenance_mut::<usize>(base.wrapping_add_signed(*at)).write(word);
            }
            fsbase::load(base);
        }
        self.now = base;
    }
}
