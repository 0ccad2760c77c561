//! What the running glibc looks like inside: found out by name where it tells, by experiment where it does not.
//!
//! Called once, by [`layout`](super::layout). The names are `GLIBC_PRIVATE`: `pthread_create` needs the first ones of
//! the dynamic loader, and debuggers read the `_thread_db_` ones, so they have been the same for decades; but nobody
//! promises them. Hence every one is looked up, every number is checked against a live thread, and anything odd is an
//! [`Unsupported`] with the reason.
//! The experiments are in `experiment`.

use super::modules::{self, State};
use super::thread_ids::Robust;
use super::{Failure, Unsupported, experiment, fsbase};
use std::ffi::{CStr, c_void};
use std::mem;

pub(super) const WORD: usize = size_of::<usize>();
/// glibc's malloc: its cache and its arena.
pub(super) const MOST_CARRIED: usize = 2;
/// More than any control block there has been.
const MOST_TCB: usize = 1 << 16;
/// Each stack slot has room for all static thread-locals: with more than so many bytes it is no place for them.
const MOST_STATIC: usize = 1 << 26;
const MOST_ALIGN: usize = 1 << 16;
/// Of glibc's `struct rseq`, at least.
pub(super) const RSEQ_SIZE: isize = 32;
/// `PTHREAD_KEY_1STLEVEL_SIZE` and `PTHREAD_KEY_2NDLEVEL_SIZE`.
pub(super) const KEY_BLOCKS: usize = 32;

pub(super) type Destructor = unsafe extern "C" fn(*mut c_void);

/// glibc's record of one `pthread_key_t`.
#[repr(C)]
pub(super) struct Key {
    pub(super) seq: usize,
    pub(super) destructor: Option<Destructor>,
}

/// A thread's value under one key.
#[repr(C)]
pub(super) struct KeyData {
    pub(super) seq: usize,
    pub(super) data: *mut c_void,
}

/// The functions and tables we need by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbols {
    /// Allocates the vector of a block's segments and initialises those; null without memory.
    pub(super) allocate_tls: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    /// Frees that vector, and the block if `true`.
    pub(super) deallocate_tls: unsafe extern "C" fn(*mut c_void, bool),
    /// Runs the registered destructors of the current block's thread-locals.
    pub(super) call_tls_dtors: unsafe extern "C" fn(),
    /// Points the current block's ctype tables at its locale's.
    pub(super) ctype_init: unsafe extern "C" fn(),
    pub(super) keys: *const Key,
}

/// Bits of a word of the control block, and what they are in a new thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits {
    pub(super) at: isize,
    pub(super) mask: usize,
    pub(super) usual: usize,
}

/// What a block looks like. Offsets are from the FS base.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(super) symbols: Symbols,
    /// Bytes of the control block.
    pub(super) tcb_size: usize,
    /// Bytes of all static segments, the reserve for later ones, and the control block.
    pub(super) static_size: usize,
    pub(super) align: usize,
    pub(super) tid: usize,
    pub(super) specific: usize,
    pub(super) specific_used: usize,
    pub(super) stack_address: usize,
    pub(super) stack_size: usize,
    /// Where the area for restartable sequences is: in the control block, or (since glibc 2.41) below it.
    pub(super) rseq: Option<isize>,
    /// (where, what): words that hold an address in the control block itself.
    pub(super) self_pointers: Vec<(isize, usize)>,
    /// Where the thread's locale is, and the value it has as long as nobody calls `uselocale`.
    pub(super) locale: (isize, usize),
    /// The words that F4 carries along.
    pub(super) carried: Vec<isize>,
    /// Where the message of `dlerror` hangs; 0: there is none.
    pub(super) load_error: Option<isize>,
    /// Whether and how the thread can be canceled.
    pub(super) cancel: Option<Bits>,
    /// Where the state of `getrandom` hangs.
    pub(super) random_state: Option<usize>,
    /// Where the list of robust mutexes hangs.
    pub(super) robust: Option<Robust>,
    /// The words of the keys of std's hash maps, if they were found.
    pub(super) hash_keys: Option<isize>,
    /// Where the links of glibc's lists of threads are: two pointers.
    pub(super) list: Option<usize>,
}

// SAFETY: the pointers are to glibc's own functions and tables, which are there for good.
unsafe impl Send for Layout {}
// SAFETY: as above; never changed once made.
unsafe impl Sync for Layout {}

pub(super) fn symbol(name: &'static CStr) -> Result<*mut c_void, Unsupported> {
    // SAFETY: a name with its terminator.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if address.is_null() {
        return Err(Unsupported::new(format!("this libc has no symbol {name:?}")));
    }
    Ok(address)
}

/// A field of `struct pthread`, as told to debuggers: `{ size in bits, number of elements, offset }`.
fn field(name: &'static CStr, bits: u32) -> Result<usize, Unsupported> {
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
unsafe fn function<F: Copy>(name: &'static CStr) -> Result<F, Unsupported> {
    const { assert!(size_of::<F>() == WORD) };
    let address = symbol(name)?;
    // SAFETY: by the caller: a function pointer, as large as the address.
    Ok(unsafe { mem::transmute_copy(&address) })
}

/// Finds out everything, or why it can't be had.
pub(super) fn explore() -> Result<Layout, Failure> {
    if cfg!(target_feature = "crt-static") {
        return Err(Unsupported::new(
            "the program is linked statically (crt-static), so libc's thread-locals are in one segment with its own",
        )
        .into());
    }
    // SAFETY: these are the functions' types in glibc since 2.34 and before; `_dl_allocate_tls` and its kin are what
    // pthread_create calls.
    let symbols = unsafe {
        Symbols {
            allocate_tls: function(c"_dl_allocate_tls")?,
            deallocate_tls: function(c"_dl_deallocate_tls")?,
            call_tls_dtors: function(c"__call_tls_dtors")?,
            ctype_init: function(c"__ctype_init")?,
            keys: symbol(c"__pthread_keys")?.cast(),
        }
    };
    // SAFETY: as above.
    let static_info: unsafe extern "C" fn(*mut usize, *mut usize) = unsafe { function(c"_dl_get_tls_static_info")? };
    let (mut static_size, mut align) = (0, 0);
    // SAFETY: it fills in two numbers.
    unsafe { static_info(&raw mut static_size, &raw mut align) };
    // SAFETY: a 32-bit number by libthread_db's convention.
    let tcb_size = unsafe { symbol(c"_thread_db_sizeof_pthread")?.cast::<u32>().read() } as usize;
    if !tcb_size.is_multiple_of(WORD) || !(512..MOST_TCB).contains(&tcb_size) {
        return Err(Unsupported::new(format!("a thread control block of {tcb_size} bytes")).into());
    }
    if !(tcb_size..MOST_STATIC).contains(&static_size)
        || !align.is_power_of_two()
        || !(WORD..=MOST_ALIGN).contains(&align)
    {
        return Err(Unsupported::new(format!("thread-locals of {static_size} bytes, aligned to {align}")).into());
    }
    let specific = field(c"_thread_db_pthread_specific", (KEY_BLOCKS * usize::BITS as usize) as u32)?;
    if specific + KEY_BLOCKS * WORD >= tcb_size {
        return Err(Unsupported::new("the table of pthread keys is not in the control block").into());
    }
    let tid = field(c"_thread_db_pthread_tid", 32)?;
    let list = field(c"_thread_db_pthread_list", 2 * usize::BITS).ok();
    let list = list.filter(|at| at.is_multiple_of(WORD) && at + 2 * WORD <= tcb_size);
    let numbers = Numbers { tcb_size, static_size, align, specific, tid, list };
    // M2: where libc's segment is in this thread's block, it is in all.
    let Some(libc) = modules::collect(fsbase::current(), static_size - tcb_size, State::now()).libc else {
        return Err(Unsupported::new("libc's thread-locals are not in the static part of the block").into());
    };
    Ok(experiment::look(&numbers, &libc)?.interpret(symbols, &numbers)?)
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
