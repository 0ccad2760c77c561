//! What the running glibc looks like inside: found out by name where it tells, by experiment where it does not.
//!
//! Called once, by [`layout`](super::layout). The names are `GLIBC_PRIVATE`: `pthread_create` needs the first ones of
//! the dynamic loader, and debuggers read the `_thread_db_` ones, so they have been the same for decades; but nobody
//! promises them. Hence every one is looked up, every number is checked against a live thread, and anything odd is an
//! [`Unsupported`] with the reason.
//!
//! The experiment is a helper thread on a stack whose address and size are known to us. In its control block we look
//! for them, for its kernel thread id, for words that point into the block itself; and we see which words change when
//! it calls malloc, `pthread_setspecific` and `uselocale` for the first time.

use super::modules::{self, Modules, State};
use super::{Unsupported, fsbase};
use std::ffi::{CStr, c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::ptr;

const WORD: usize = size_of::<usize>();
/// glibc's malloc: its cache and its arena.
pub(super) const MOST_CARRIED: usize = 2;
/// More than any control block or reserve there has been; the snapshots are this long.
const MOST: usize = 1 << 16;
/// The helper's stack: a size that no other field of a control block has by accident.
const HELPER_STACK: usize = 0x4_3000;
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

/// What a block looks like. Offsets are from the FS base.
#[derive(Debug)]
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
    pub(super) rseq: Option<usize>,
    /// (where, what): words that hold an address in the control block itself.
    pub(super) self_pointers: Vec<(isize, usize)>,
    /// Where the thread's locale is, and the value it has as long as nobody calls `uselocale`.
    pub(super) locale: (isize, usize),
    /// The words that F4 carries along.
    pub(super) carried: Vec<isize>,
}

// SAFETY: the pointers are to glibc's own functions and tables, which are there for good.
unsafe impl Send for Layout {}
// SAFETY: as above; never changed once made.
unsafe impl Sync for Layout {}

fn symbol(name: &'static CStr) -> Result<*mut c_void, Unsupported> {
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
    if size != bits || offset as usize >= MOST {
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
pub(super) fn explore() -> Result<Layout, Unsupported> {
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
    let sane = tcb_size.is_multiple_of(WORD) && (512..MOST).contains(&tcb_size);
    if !sane || !(tcb_size..MOST).contains(&static_size) || !align.is_power_of_two() || !(WORD..=4096).contains(&align)
    {
        return Err(Unsupported::new(format!(
            "thread-local blocks of {static_size} bytes aligned to {align}, of which {tcb_size} for the control block"
        )));
    }
    let specific = field(c"_thread_db_pthread_specific", (KEY_BLOCKS * usize::BITS as usize) as u32)?;
    let tid = field(c"_thread_db_pthread_tid", 32)?;
    let seen = look_in_helper(tcb_size, static_size)?;
    let layout = seen.interpret(symbols, tcb_size, static_size, align, specific, tid)?;
    Ok(layout)
}

/// What the helper thread saw of itself. Filled in by it, read after it was joined.
struct Seen {
    tcb_size: usize,
    below: usize,
    tcb: usize,
    stack: usize,
    kernel_tid: u32,
    locale: usize,
    key_error: bool,
    /// The block from its lowest segment on: at first, after malloc, after setspecific, after uselocale.
    shots: [Vec<usize>; 4],
    /// As it was before the helper.
    state: State,
    modules: Option<Modules>,
}

fn look_in_helper(tcb_size: usize, static_size: usize) -> Result<Seen, Unsupported> {
    let below = static_size - tcb_size;
    let shot = || vec![0; static_size / WORD];
    let mut seen = Seen {
        tcb_size,
        below: below / WORD * WORD,
        tcb: 0,
        stack: 0,
        kernel_tid: 0,
        locale: 0,
        key_error: false,
        shots: [shot(), shot(), shot(), shot()],
        state: State::now(),
        modules: None,
    };
    let error =
        |what: &str, code: c_int| Unsupported::new(format!("{what}: {}", std::io::Error::from_raw_os_error(code)));
    // SAFETY: plain pthread calls on objects of ours; the helper gets `seen` and is joined before it is used again,
    // and its stack is unmapped after that.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let stack = libc::mmap(ptr::null_mut(), HELPER_STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if stack == libc::MAP_FAILED {
            return Err(error("no memory for a helper thread", crate::stack::errno()));
        }
        seen.stack = stack as usize;
        let mut attributes = MaybeUninit::uninit();
        libc::pthread_attr_init(attributes.as_mut_ptr());
        let mut thread = MaybeUninit::uninit();
        let mut code = libc::pthread_attr_setstack(attributes.as_mut_ptr(), stack, HELPER_STACK);
        if code == 0 {
            let argument = (&raw mut seen).cast();
            code = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), look_at_myself, argument);
        }
        if code == 0 {
            code = libc::pthread_join(thread.assume_init(), ptr::null_mut());
        }
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        libc::munmap(stack, HELPER_STACK);
        if code != 0 {
            return Err(error("no helper thread", code));
        }
    }
    Ok(seen)
}

/// The helper: allocates nothing before the first malloc that is under observation.
extern "C" fn look_at_myself(seen: *mut c_void) -> *mut c_void {
    // SAFETY: `look_in_helper` waits for us, and passes its own.
    let seen = unsafe { &mut *seen.cast::<Seen>() };
    seen.tcb = fsbase::current();
    let tcb = ptr::with_exposed_provenance::<u8>(seen.tcb);
    let mut shots = mem::take(&mut seen.shots);
    let below = seen.below;
    let mut shoot = |which: usize| {
        let shot = &mut shots[which];
        // SAFETY: the whole of our own block, of which nobody else writes a word.
        unsafe { ptr::copy_nonoverlapping(tcb.sub(below).cast(), shot.as_mut_ptr(), shot.len()) };
    };
    // SAFETY: plain libc calls; the key's value is never followed, the locale is freed after it is out of use.
    unsafe {
        seen.kernel_tid = libc::gettid().cast_unsigned();
        shoot(0);
        libc::free(std::hint::black_box(libc::malloc(24)));
        shoot(1);
        let mut key = 0;
        seen.key_error =
            libc::pthread_key_create(&raw mut key, None) != 0 || libc::pthread_setspecific(key, tcb.cast()) != 0;
        shoot(2);
        libc::pthread_setspecific(key, ptr::null());
        libc::pthread_key_delete(key);
        let locale = libc::newlocale(libc::LC_ALL_MASK, c"C".as_ptr(), ptr::null_mut());
        seen.locale = locale as usize;
        let before = libc::uselocale(locale);
        shoot(3);
        libc::uselocale(before);
        libc::freelocale(locale);
    }
    seen.shots = shots;
    seen.modules = Some(modules::collect(seen.tcb, below, seen.state.clone()));
    ptr::null_mut()
}

impl Seen {
    /// The word at an offset from the FS base, in one of the snapshots.
    fn word(&self, shot: usize, at: isize) -> usize {
        self.shots[shot][(at + self.below.cast_signed()) as usize / WORD]
    }

    /// Offsets of the words in `range` for which `test` holds.
    fn find(&self, range: std::ops::Range<isize>, test: impl Fn(isize) -> bool) -> Vec<isize> {
        range.step_by(WORD).filter(|at| test(*at)).collect()
    }

    /// The one word of the control block that is `value`.
    fn field(&self, value: usize, what: &str) -> Result<usize, Unsupported> {
        match self.find(0..self.tcb_size.cast_signed(), |at| self.word(0, at) == value)[..] {
            [at] => Ok(at.cast_unsigned()),
            ref found => Err(Unsupported::new(format!("{} fields of the control block look like {what}", found.len()))),
        }
    }

    fn interpret(
        self,
        symbols: Symbols,
        tcb_size: usize,
        static_size: usize,
        align: usize,
        specific: usize,
        tid: usize,
    ) -> Result<Layout, Unsupported> {
        let modules = self.modules.as_ref().expect("the helper ran");
        let Some(libc) = &modules.libc else {
            return Err(Unsupported::new("libc's thread-locals are not in the static part of the block"));
        };
        let control = 0..tcb_size.cast_signed();
        let segment = {
            let start = -(libc.below.next_multiple_of(WORD).cast_signed());
            start..start + libc.size.next_multiple_of(WORD).cast_signed()
        };
        let within = |value: usize| (self.tcb..self.tcb + tcb_size).contains(&value);
        let mut self_pointers = self.find(control.clone(), |at| within(self.word(0, at)));
        self_pointers.extend(self.find(segment.clone(), |at| within(self.word(0, at))));
        let self_pointers = self_pointers.into_iter().map(|at| (at, self.word(0, at) - self.tcb)).collect::<Vec<_>>();
        if !self_pointers.contains(&(0, 0)) || !self_pointers.contains(&(16, 0)) {
            return Err(Unsupported::new("the control block does not begin as the x86-64 ABI says"));
        }
        // SAFETY: the field lies in the control block, of which we have a copy in words.
        let seen_tid = unsafe { self.shots[0].as_ptr().cast::<u8>().add(self.below + tid).cast::<u32>().read() };
        if seen_tid != self.kernel_tid {
            return Err(Unsupported::new("the kernel's thread id is not where debuggers are told to look"));
        }
        let Some(&(_, first_keys)) = self_pointers.iter().find(|(at, _)| *at == specific.cast_signed()) else {
            return Err(Unsupported::new("the table of pthread keys is not where debuggers are told to look"));
        };
        if self.key_error {
            return Err(Unsupported::new("no pthread key for the experiment"));
        }
        let key_data = first_keys.cast_signed()..(first_keys + KEY_BLOCKS * size_of::<KeyData>()).cast_signed();
        let changed = |before: usize, after: usize, range: std::ops::Range<isize>| {
            self.find(range, |at| self.word(before, at) != self.word(after, at))
        };
        // The value itself lies among the first ones, or in a block that was hung into the table for it.
        let table = specific.cast_signed()..(specific + KEY_BLOCKS * WORD).cast_signed();
        let apart = |at: &isize| !key_data.contains(at) && !table.contains(at);
        let used: Vec<isize> = changed(1, 2, control).into_iter().filter(apart).collect();
        let specific_used = match used[..] {
            [at] => {
                let difference = self.word(1, at) ^ self.word(2, at);
                let byte = difference.trailing_zeros() as usize / 8;
                if difference >> (8 * byte) != 1 {
                    return Err(Unsupported::new("a pthread key's first value does not set a flag"));
                }
                at.cast_unsigned() + byte
            }
            _ => return Err(Unsupported::new("a pthread key's first value does not set one flag")),
        };
        let carried = changed(0, 1, segment.clone());
        let locale = changed(2, 3, segment).into_iter().find(|at| self.word(3, *at) == self.locale);
        let Some(locale) = locale.map(|at| (at, self.word(2, at))) else {
            return Err(Unsupported::new("uselocale leaves no trace"));
        };
        let stack_address = self.field(self.stack, "the stack's address")?;
        let stack_size = self.field(HELPER_STACK, "the stack's size")?;
        // SAFETY: with this name glibc 2.35 and later have the distance from the FS base.
        let rseq = symbol(c"__rseq_offset").ok().map(|at| unsafe { at.cast::<isize>().read() }.cast_unsigned());
        modules::publish(self.modules.expect("the helper ran"));
        Ok(Layout {
            symbols,
            tcb_size,
            static_size,
            align,
            tid,
            specific,
            specific_used,
            stack_address,
            stack_size,
            rseq: rseq.filter(|at| at + 32 <= tcb_size),
            self_pointers,
            locale,
            // glibc's malloc has two; another allocator has none here, or does not travel.
            carried: if carried.len() <= MOST_CARRIED { carried } else { Vec::new() },
        })
    }
}
