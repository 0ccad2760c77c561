//! What a block looks like: offsets, sizes and functions of this process's glibc.
//!
//! Found out by `explore`; used by all that makes, loads or resets blocks.

use std::ffi::c_void;

pub(super) const WORD: usize = size_of::<usize>();
/// glibc's malloc: its cache and its arena.
pub(super) const MOST_CARRIED: usize = 2;
/// The least size of glibc's `struct rseq`.
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
    /// The bits that say if and how the thread can be canceled.
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

/// A thread's list of the robust mutexes that it holds. Its head is the kernel's `struct robust_list_head`: the list, a distance,
/// and what is about to be linked; before it glibc has a pointer to the last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Robust {
    /// Where the head is, from the control block.
    pub(super) at: isize,
    /// From a link of the list to the futex word of its mutex.
    pub(super) futex_offset: usize,
}
