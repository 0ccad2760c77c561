//! Which loaded libraries have thread-locals, and where they lie in a block.
//!
//! Collected at start-up, and again when a block is made after a library was loaded ([`up_to_date`]). A list is never
//! freed: a block remembers the list it was made with, and is not used again when a newer one is needed.
//!
//! Whether a library was loaded is asked for each goroutine, and `dl_iterate_phdr`, which counts, costs as much as a
//! goroutine. So the loader's own data (`_rtld_global`) is searched once for words that have the count for their value.
//! All of them are watched ([`Watch`]): the counter is one of them, whichever.
//!
//! * **M1.** A segment's image is a copy of ours: a library that was unloaded leaves it readable.
//! * **M2.** `below` is the same for every thread: the segment belongs to the static part of the block.
//! * **M3.** A library's number is given to another one only when that is loaded, which changes the count. So while a list is up
//!   to date, each number in it is one library's, or nobody's any more.

use super::fsbase;
use super::layout::Layout;
use crate::base::atomics::Lock;
use crate::base::process;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::{mem, ptr, slice};

/// So many zeros are part of the image: to copy them with it costs less than a call that writes zeros.
const MOST_ZEROS: usize = 512;

/// The thread-locals of one library, in every block.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// How far below the FS base it begins (M2).
    pub(super) below: usize,
    pub(super) initial: Initial,
}

/// What a library's thread-locals are at first.
#[derive(Clone, Debug)]
pub(super) struct Initial {
    image: Box<[u8]>,
    /// Bytes in all; those after the image start as zeros.
    pub(super) size: usize,
}

impl Initial {
    /// Reads those of a library with this header.
    ///
    /// # Safety
    /// The library is loaded at `base`, and the loader keeps it mapped during the call.
    unsafe fn read(base: u64, header: &libc::Elf64_Phdr) -> Initial {
        let (file, size) = (header.p_filesz as usize, header.p_memsz as usize);
        let image = ptr::with_exposed_provenance::<u8>((base + header.p_vaddr) as usize);
        // SAFETY: by the caller; this is where its image lies.
        let mut image = unsafe { slice::from_raw_parts(image, file) }.to_vec();
        if size - file <= MOST_ZEROS {
            image.resize(size, 0);
        }
        Initial { image: image.into(), size }
    }

    /// Makes a library's thread-locals what they are at first.
    ///
    /// # Safety
    /// They are at `start`, and nobody uses them.
    #[inline]
    pub(super) unsafe fn write(&self, start: *mut u8) {
        // SAFETY: by the caller: `size` bytes, which the image does not exceed.
        unsafe {
            ptr::copy_nonoverlapping(self.image.as_ptr(), start, self.image.len());
            if self.size > self.image.len() {
                ptr::write_bytes(start.add(self.image.len()), 0, self.size - self.image.len());
            }
        }
    }
}

/// A library whose thread-locals are allocated for a block when they are first touched in it.
#[derive(Debug)]
pub(super) struct OnDemand {
    /// Its number in the vector of segments.
    pub(super) id: usize,
    /// Found out when a goroutine that has touched them ends ([`Modules::initial_of`]).
    initial: OnceLock<Initial>,
}

impl OnDemand {
    /// Returns true if it is known what its thread-locals are at first.
    pub(super) fn is_known(&self) -> bool {
        self.initial.get().is_some()
    }
}

/// What one look at the loaded libraries found.
#[derive(Debug)]
pub(super) struct Modules {
    /// Those with a place in the static part of a block, except libc.
    pub(super) segments: Vec<Segment>,
    /// libc's own segment: where `errno` lies.
    pub(super) libc: Option<Segment>,
    /// Those without one, as far as was known then.
    pub(super) on_demand: Vec<OnDemand>,
    /// As it was before the block was made in which we looked.
    state: State,
}

// SAFETY: never changed once made.
unsafe impl Sync for Modules {}
// SAFETY: as above.
unsafe impl Send for Modules {}

static LATEST: AtomicPtr<Modules> = AtomicPtr::new(ptr::null_mut());

/// The list to make blocks by.
pub(super) fn latest() -> &'static Modules {
    // Acquire: pairs with the Release in `publish`.
    let modules = LATEST.load(Ordering::Acquire);
    // SAFETY: never freed, and `explore` publishes one before there are blocks.
    unsafe { modules.as_ref() }.expect("explored before blocks are made")
}

pub(super) fn publish(modules: Modules) {
    // Release: pairs with the Acquire in `latest`.
    LATEST.store(Box::into_raw(Box::new(modules)), Ordering::Release);
}

/// The list to make blocks by, which knows of all libraries loaded before the call. Touches thread-locals.
#[inline(never)]
pub(super) fn up_to_date(layout: &Layout) -> &'static Modules {
    static ONE_AT_A_TIME: Lock<()> = Lock::new(());
    if !latest().is_up_to_date() {
        let _held_off = process::hold_off();
        let _guard = ONE_AT_A_TIME.lock();
        // Again and again while others load libraries.
        while !latest().is_up_to_date() {
            let state = State::now();
            // SAFETY: a block of its own, with a vector that is up to date; given back below.
            let scratch = unsafe { (layout.symbols.allocate_tls)(ptr::null_mut()) };
            if scratch.is_null() {
                // No memory for a block either.
                break;
            }
            publish(collect(scratch as usize, layout.static_size - layout.tcb_size, state));
            // SAFETY: allocated above, and never loaded.
            unsafe { (layout.symbols.deallocate_tls)(scratch, true) };
        }
    }
    latest()
}

impl Modules {
    /// What the thread-locals of one of the libraries are at first, if they can be reset to that.
    ///
    /// The caller's goroutine has touched them in its block, which was made by this list. `None` if a library was loaded since:
    /// then the number may be another library's by now. Until then (loads are counted, M3) it is either this library's or, after
    /// a `dlclose`, nobody's, and what the block has there is of this library's size. It is read here and not when the list is
    /// made, because at that time the library may not have been relocated yet; by now it has been used.
    pub(super) fn initial_of<'a>(&self, library: &'a OnDemand) -> Option<&'a Initial> {
        if !library.is_known() {
            self.look_up(library);
        }
        library.initial.get().filter(|_| self.is_up_to_date())
    }

    #[cold]
    #[inline(never)]
    fn look_up(&self, library: &OnDemand) {
        struct Wanted {
            id: usize,
            found: Option<Initial>,
        }
        extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, wanted: *mut c_void) -> c_int {
            // SAFETY: the loader passes its record and our own pointer.
            let (info, wanted) = unsafe { (&*info, &mut *wanted.cast::<Wanted>()) };
            if info.dlpi_tls_modid != wanted.id {
                return 0;
            }
            // SAFETY: the loader's record of a library, which it keeps mapped during the callback.
            wanted.found = unsafe { segment_header(info).map(|header| Initial::read(info.dlpi_addr, header)) };
            1
        }
        let _held_off = process::hold_off();
        let mut wanted = Wanted { id: library.id, found: None };
        // SAFETY: as in `collect`.
        unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut wanted).cast()) };
        // No load until now: the number is that of the library that was touched.
        if let Some(initial) = wanted.found
            && self.is_up_to_date()
        {
            // Another goroutine may have found the same.
            let _ = library.initial.set(initial);
        }
    }

    /// Returns true if no library was loaded since.
    pub(super) fn is_up_to_date(&self) -> bool {
        match watch() {
            Watch::Words(words) => words.iter().zip(&self.state.0).all(|(word, was)| word.read() == *was),
            Watch::Nothing => self.state.0 == [loads() as usize],
        }
    }
}

/// What the watched words were, or the count itself.
#[derive(Clone, Debug)]
pub(super) struct State(Vec<usize>);

impl State {
    pub(super) fn now() -> State {
        match watch() {
            Watch::Words(words) => State(words.iter().map(|word| word.read()).collect()),
            Watch::Nothing => State(vec![loads() as usize]),
        }
    }
}

/// How loads are noticed.
#[derive(Debug)]
enum Watch {
    /// One of these words counts them.
    Words(Vec<Word>),
    /// None was found: the loader is asked.
    Nothing,
}

/// A word of the loader's.
#[derive(Clone, Copy, Debug)]
struct Word(&'static AtomicUsize);

impl Word {
    fn read(self) -> usize {
        // Relaxed: who may use a library has learned of it from somebody who loaded it.
        self.0.load(Ordering::Relaxed)
    }
}

fn watch() -> &'static Watch {
    static WATCH: OnceLock<Watch> = OnceLock::new();
    process::once(&WATCH, || find_words().map_or(Watch::Nothing, Watch::Words))
}

/// The words of `_rtld_global` that are the number of libraries loaded so far.
fn find_words() -> Option<Vec<Word>> {
    /// `RTLD_DL_SYMENT`: dladdr1 tells the symbol's entry, and so its size.
    const SYMBOL: c_int = 1;
    const MOST: usize = 1 << 16;
    // SAFETY: a name with its terminator; records that the loader fills in; then words of a symbol as large as its entry
    // says, which is data of the loader's, there for good and changed by it in whole words.
    unsafe {
        let start = libc::dlsym(libc::RTLD_DEFAULT, c"_rtld_global".as_ptr());
        let mut info: libc::Dl_info = mem::zeroed();
        let mut entry: *mut libc::Elf64_Sym = ptr::null_mut();
        if start.is_null() || libc::dladdr1(start, &raw mut info, (&raw mut entry).cast(), SYMBOL) == 0 {
            return None;
        }
        let size = entry.as_ref()?.st_size as usize;
        if info.dli_saddr != start || size > MOST || !(start as usize).is_multiple_of(size_of::<usize>()) {
            return None;
        }
        let before = loads();
        let all = slice::from_raw_parts(start.cast::<AtomicUsize>(), size / size_of::<usize>());
        let words: Vec<Word> = all.iter().map(Word).filter(|word| word.read() as u64 == before).collect();
        // A few words are often a small number; many would be something else.
        (loads() == before && (1..=16).contains(&words.len())).then_some(words)
    }
}

/// How many libraries have been loaded so far.
fn loads() -> u64 {
    extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, out: *mut c_void) -> c_int {
        // SAFETY: the loader passes its record and our own pointer.
        unsafe { *out.cast::<u64>() = (*info).dlpi_adds };
        1
    }
    let mut loads = 0_u64;
    // SAFETY: the callback has the signature asked for and does not unwind.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut loads).cast()) };
    loads
}

/// The header of a library's thread-locals, if it has any.
///
/// # Safety
/// The record is the loader's, of a library that is mapped.
unsafe fn segment_header(info: &libc::dl_phdr_info) -> Option<&libc::Elf64_Phdr> {
    // SAFETY: by the caller.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    headers.iter().find(|header| header.p_type == libc::PT_TLS)
}

/// Lists the libraries. `tcb` is a block whose vector of segments is up to date, a new one, with `room` bytes of
/// segments below; `state` was so before it was made.
pub(super) fn collect(tcb: usize, room: usize, state: State) -> Modules {
    struct Looking {
        tcb: usize,
        room: usize,
        errno_below: usize,
        found: Modules,
    }
    impl Looking {
        /// Where the block has the segment of a library; `None`: nowhere yet.
        fn place(&self, id: usize) -> Option<usize> {
            // SAFETY: the second word of a control block points at the vector (ELF TLS ABI): pairs of words, the first
            // of which is an address or "unallocated"; before it, the number of pairs there are.
            let place = unsafe {
                let vector = ptr::with_exposed_provenance::<*const usize>(self.tcb).add(1).read();
                if id > vector.sub(2).read() {
                    return None;
                }
                vector.add(2 * id).read()
            };
            (self.tcb - self.room..self.tcb).contains(&place).then_some(place)
        }
    }
    extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, looking: *mut c_void) -> c_int {
        // SAFETY: the loader passes its record and our own pointer.
        let (info, this) = unsafe { (&*info, &mut *looking.cast::<Looking>()) };
        if info.dlpi_tls_modid == 0 {
            return 0;
        }
        // SAFETY: the record describes a loaded library.
        let Some(header) = (unsafe { segment_header(info) }) else { return 0 };
        let Some(place) = this.place(info.dlpi_tls_modid) else {
            this.found.on_demand.push(OnDemand { id: info.dlpi_tls_modid, initial: OnceLock::new() });
            return 0;
        };
        // SAFETY: the loader keeps the library mapped during the callback.
        let initial = unsafe { Initial::read(info.dlpi_addr, header) };
        let segment = Segment { below: this.tcb - place, initial };
        if (segment.below - segment.initial.size..segment.below).contains(&(this.errno_below - 1)) {
            this.found.libc = Some(segment);
        } else {
            this.found.segments.push(segment);
        }
        0
    }
    let found = Modules { segments: Vec::new(), libc: None, on_demand: Vec::new(), state };
    // SAFETY: errno's address has no preconditions.
    let errno_below = fsbase::current() - unsafe { libc::__errno_location() } as usize;
    let mut looking = Looking { tcb, room, errno_below, found };
    // SAFETY: the callback has the signature asked for; it does not unwind short of a failed allocation, which aborts.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut looking).cast()) };
    looking.found
}
