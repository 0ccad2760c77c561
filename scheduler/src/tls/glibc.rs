//! The names by which the running glibc tells what it looks like inside.
//!
//! Used by `explore` and `probe`. The names are `GLIBC_PRIVATE`: `pthread_create` needs the first ones of
//! the dynamic loader, and debuggers read the `_thread_db_` ones, so they have been the same for decades; but nobody
//! promises them. Hence every one is looked up, every number is checked against a live thread, and anything odd is an
//! [`Unsupported`] with the reason.

use super::error::Unsupported;
use super::layout::{KEY_BLOCKS, RSEQ_SIZE, WORD};
use std::ffi::{CStr, c_void};
use std::mem;

/// More than any control block there has been.
pub(super) const MOST_TCB: usize = 1 << 16;

pub(super) fn symbol(name: &'static CStr) -> Result<*mut c_void, Unsupported> {
    // SAFETY: a name with its terminator.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if address.is_null() {
        return Err(Unsupported::new(format!("this libc has no symbol {name:?}")));
    }
    Ok(address)
}

/// A field of `struct pthread`, as told to debuggers: `{ size in bits, number of elements, offset }`.
pub(super) fn field(name: &'static CStr, bits: u32) -> Result<usize, Unsupported> {
    // SAFETY: `_thread_db_` descriptors of fields are three 32-bit numbers (libthread_db's `db_info`).
    let [size, _, offset] = unsafe { symbol(name)?.cast::<[u32; 3]>().read() };
    if size != bits || offset as usize >= MOST_TCB {
        return Err(Unsupported::new(format!("{name:?} describes a field of {size} bits at {offset}")));
    }
    Ok(offset as usize)
}

/// A function by name.
///
/// # Safety
/// `F` is the type of the function of this name.
pub(super) unsafe fn function<F: Copy>(name: &'static CStr) -> Result<F, Unsupported> {
    const { assert!(size_of::<F>() == WORD) };
    let address = symbol(name)?;
    // SAFETY: by the caller: a function pointer, as large as the address.
    Ok(unsafe { mem::transmute_copy(&address) })
}

/// What libc tells.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) tcb_size: usize,
    pub(super) static_size: usize,
    pub(super) align: usize,
    pub(super) specific: usize,
    pub(super) tid: usize,
    pub(super) list: Option<usize>,
}

impl Numbers {
    /// The byte behind the table of pthread keys.
    pub(super) fn behind_keys(&self) -> usize {
        self.specific + KEY_BLOCKS * WORD
    }
}

/// Where the area for restartable sequences is, from the FS base; `None`: this glibc has none.
pub(super) fn rseq(tcb_size: usize, static_size: usize) -> Result<Option<isize>, Unsupported> {
    // SAFETY: with this name glibc 2.35 and later have the distance from the FS base.
    let Ok(at) = symbol(c"__rseq_offset").map(|at| unsafe { at.cast::<isize>().read() }) else { return Ok(None) };
    let below = (static_size - tcb_size).cast_signed();
    // The first words of a control block are the ABI's.
    let fits = (-below..=-RSEQ_SIZE).contains(&at) || (128..=tcb_size.cast_signed() - RSEQ_SIZE).contains(&at);
    if !fits {
        return Err(Unsupported::new(format!("the area for restartable sequences is at {at}, outside the block")));
    }
    Ok(Some(at))
}
