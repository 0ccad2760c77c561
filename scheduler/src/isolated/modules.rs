//! Which loaded libraries have thread-locals, and where they lie in a block.
//!
//! Collected at start-up and again after a library was loaded ([`refresh`], by the monitor). A list is never freed: a
//! block remembers the list it was made with.
//!
//! * **M1.** A segment's image is a copy of ours: a library that was unloaded leaves it readable.
//! * **M2.** `below` is the same for every thread: the segment belongs to the static part of the block.

use super::glibc::Layout;
use crate::shim::Lock;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{ptr, slice};

/// The thread-locals of one library, in every block.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// How far below the FS base it begins (M2).
    pub(super) below: usize,
    pub(super) image: Box<[u8]>,
    /// Bytes in all; those after the image start as zeros.
    pub(super) size: usize,
}

/// What one look at the loaded libraries found.
#[derive(Debug)]
pub(super) struct Modules {
    /// Those with a place in the static part of a block, except libc.
    pub(super) segments: Vec<Segment>,
    /// libc's own segment: where `errno` lies.
    pub(super) libc: Option<Segment>,
    /// The numbers of those whose thread-locals are allocated when they are first touched.
    pub(super) dynamic: Vec<usize>,
    loads: u64,
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

/// Looks whether libraries were loaded since; blocks made before are then not used again.
pub(super) fn refresh(layout: &Layout) {
    static ONE_AT_A_TIME: Lock<()> = Lock::new(());
    if loads() != latest().loads {
        let _guard = ONE_AT_A_TIME.lock();
        publish(collect(super::fsbase::current(), layout.static_size - layout.tcb_size));
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

/// Lists the libraries, as seen by the calling thread, whose block is at `tcb` with `room` bytes of segments below.
pub(super) fn collect(tcb: usize, room: usize) -> Modules {
    struct Looking {
        tcb: usize,
        room: usize,
        errno: usize,
        found: Modules,
    }
    extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, looking: *mut c_void) -> c_int {
        // SAFETY: the loader passes its record and our own pointer.
        let (info, this) = unsafe { (&*info, &mut *looking.cast::<Looking>()) };
        this.found.loads = info.dlpi_adds;
        if info.dlpi_tls_modid == 0 {
            return 0;
        }
        // SAFETY: the record describes a loaded library.
        let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let Some(header) = headers.iter().find(|h| h.p_type == libc::PT_TLS) else { return 0 };
        let (file, size) = (header.p_filesz as usize, header.p_memsz as usize);
        let data = info.dlpi_tls_data as usize;
        if data >= this.tcb || data < this.tcb - this.room {
            this.found.dynamic.push(info.dlpi_tls_modid);
            return 0;
        }
        let image = ptr::with_exposed_provenance::<u8>((info.dlpi_addr + header.p_vaddr) as usize);
        // SAFETY: the loader keeps the library mapped during the callback; this is where its image lies.
        let image = unsafe { slice::from_raw_parts(image, file) }.into();
        let segment = Segment { below: this.tcb - data, image, size };
        if (data..data + size).contains(&this.errno) {
            this.found.libc = Some(segment);
        } else {
            this.found.segments.push(segment);
        }
        0
    }
    let found = Modules { segments: Vec::new(), libc: None, dynamic: Vec::new(), loads: 0 };
    // SAFETY: errno's address has no preconditions.
    let errno = unsafe { libc::__errno_location() } as usize;
    let mut looking = Looking { tcb, room, errno, found };
    // SAFETY: the callback has the signature asked for; it does not unwind short of a failed allocation, which aborts.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut looking).cast()) };
    looking.found
}
