//! What the running glibc looks like inside: found out by name where it tells, by experiment where it does not.
//!
//! Called once, by [`layout`](super::layout). The names are `GLIBC_PRIVATE`: `pthread_create` needs the first ones of
//! the dynamic loader, and debuggers read the `_thread_db_` ones, so they have been the same for decades; but nobody
//! promises them. Hence every one is looked up, every number is checked against a live thread, and anything odd is an
//! [`Unsupported`] with the reason.
//!
//! The experiment is a helper thread on a stack whose address and size are known to us. In its control block we look
//! for them, for its kernel thread id, for words that point into the block itself; we see which words of libc's segment
//! change when it calls malloc and `uselocale` for the first time, and which byte `pthread_setspecific` sets. The program's
//! allocator need not be libc's, and may use thread-locals and pthread keys of its own at any time.

use super::hash_keys;
use super::modules::{self, Modules, Segment, State};
use super::{Failure, Unsupported, fsbase};
use crate::stack::page_size;
use std::ffi::{CStr, c_void};
use std::io::Error;
use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::ptr;

const WORD: usize = size_of::<usize>();
/// glibc's malloc: its cache and its arena.
pub(super) const MOST_CARRIED: usize = 2;
/// More than any control block there has been.
const MOST_TCB: usize = 1 << 16;
/// Each stack slot has room for all static thread-locals: with more than so many bytes it is no place for them.
const MOST_STATIC: usize = 1 << 26;
const MOST_ALIGN: usize = 1 << 16;
/// The helper's stack beside its thread-locals: a size that no other field of a control block has by accident.
const HELPER_STACK: usize = 0x4_3000;
/// Of glibc's `struct rseq`, at least.
const RSEQ_SIZE: isize = 32;
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
    /// The words of the keys of std's hash maps, if they were found.
    pub(super) hash_keys: Option<isize>,
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
            "the program is linked statically (crt-static), so that libc's thread-locals are not apart from its own",
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
    let numbers = Numbers { tcb_size, static_size, align, specific, tid };
    // M2: where libc's segment is in this thread's block, it is in all.
    let Some(libc) = modules::collect(fsbase::current(), static_size - tcb_size, State::now()).libc else {
        return Err(Unsupported::new("libc's thread-locals are not in the static part of the block").into());
    };
    Ok(look_in_helper(&numbers, &libc)?.interpret(symbols, &numbers)?)
}

/// What libc tells.
#[derive(Debug)]
struct Numbers {
    tcb_size: usize,
    static_size: usize,
    align: usize,
    specific: usize,
    tid: usize,
}

impl Numbers {
    /// The byte behind the table of pthread keys.
    fn behind_keys(&self) -> usize {
        self.specific + KEY_BLOCKS * WORD
    }
}

/// libc's segment and the control block, word by word.
#[derive(Debug, Default)]
struct Shot {
    segment: Vec<usize>,
    control: Vec<usize>,
}

/// When the shots are taken.
const AT_FIRST: usize = 0;
const AFTER_MALLOC: usize = 1;
const AFTER_LOCALE: usize = 2;

/// What the helper thread saw of itself. Filled in by it, read after it was joined.
struct Seen {
    /// Where libc's segment is, by words.
    segment: Range<isize>,
    room: usize,
    behind_keys: usize,
    tcb: usize,
    stack: usize,
    stack_size: usize,
    kernel_tid: u32,
    locale: usize,
    key_error: bool,
    /// The byte behind the table of pthread keys is set by each value that a key gets.
    flag_found: bool,
    shots: [Shot; 3],
    /// As it was before the helper.
    state: State,
    modules: Option<Modules>,
    hash_keys: Option<isize>,
}

fn look_in_helper(numbers: &Numbers, libc: &Segment) -> Result<Seen, Failure> {
    let start = -(libc.below.next_multiple_of(WORD).cast_signed());
    let segment = start..start + libc.size.next_multiple_of(WORD).cast_signed();
    let shot = || Shot { segment: vec![0; segment.len() / WORD], control: vec![0; numbers.tcb_size / WORD] };
    let mut seen = Seen {
        shots: [shot(), shot(), shot()],
        segment,
        room: numbers.static_size - numbers.tcb_size,
        behind_keys: numbers.behind_keys(),
        tcb: 0,
        stack: 0,
        stack_size: (HELPER_STACK + numbers.static_size + numbers.align).next_multiple_of(page_size()),
        kernel_tid: 0,
        locale: 0,
        key_error: false,
        flag_found: false,
        state: State::now(),
        modules: None,
        hash_keys: None,
    };
    // SAFETY: plain pthread calls on objects of ours; the helper gets `seen` and is joined before it is used again,
    // and its stack is unmapped after that.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let stack = libc::mmap(ptr::null_mut(), seen.stack_size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if stack == libc::MAP_FAILED {
            return Err(Failure::refused("no memory to look at thread-locals in", &Error::last_os_error()));
        }
        seen.stack = stack as usize;
        let mut attributes = MaybeUninit::uninit();
        libc::pthread_attr_init(attributes.as_mut_ptr());
        let mut thread = MaybeUninit::uninit();
        let mut code = libc::pthread_attr_setstack(attributes.as_mut_ptr(), stack, seen.stack_size);
        if code == 0 {
            let argument = (&raw mut seen).cast();
            code = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), look_at_myself, argument);
        }
        if code == 0 {
            code = libc::pthread_join(thread.assume_init(), ptr::null_mut());
        }
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        libc::munmap(stack, seen.stack_size);
        if code != 0 {
            return Err(Failure::refused("no thread to look at thread-locals with", &Error::from_raw_os_error(code)));
        }
    }
    Ok(seen)
}

/// The helper: allocates nothing before the first malloc that is under observation.
extern "C" fn look_at_myself(seen: *mut c_void) -> *mut c_void {
    // SAFETY: `look_in_helper` waits for us, and passes its own.
    let seen = unsafe { &mut *seen.cast::<Seen>() };
    seen.tcb = fsbase::current();
    let tcb = ptr::with_exposed_provenance_mut::<u8>(seen.tcb);
    let start = seen.segment.start;
    let mut shots = mem::take(&mut seen.shots);
    let mut shoot = |which: usize| {
        let Shot { segment, control } = &mut shots[which];
        // SAFETY: words of our own block, none of which anybody else writes.
        unsafe {
            ptr::copy_nonoverlapping(tcb.offset(start).cast(), segment.as_mut_ptr(), segment.len());
            ptr::copy_nonoverlapping(tcb.cast(), control.as_mut_ptr(), control.len());
        }
    };
    // SAFETY: plain libc calls; the locale is freed after it is out of use.
    unsafe {
        seen.kernel_tid = libc::gettid().cast_unsigned();
        shoot(AT_FIRST);
        libc::free(std::hint::black_box(libc::malloc(24)));
        shoot(AFTER_MALLOC);
        let locale = libc::newlocale(libc::LC_ALL_MASK, c"C".as_ptr(), ptr::null_mut());
        seen.locale = locale as usize;
        let before = libc::uselocale(locale);
        shoot(AFTER_LOCALE);
        libc::uselocale(before);
        libc::freelocale(locale);
        // After malloc, which may have set the flag already by a key of its own: it is cleared here, to see who sets it.
        let mut key = 0;
        let flag = tcb.add(seen.behind_keys);
        seen.key_error = libc::pthread_key_create(&raw mut key, None) != 0;
        let mut set = |value| seen.key_error |= libc::pthread_setspecific(key, value) != 0;
        if flag.read_volatile() <= 1 {
            set(tcb.cast());
            let first = flag.read_volatile();
            flag.write_volatile(0);
            set(ptr::null_mut());
            let without = flag.read_volatile();
            set(tcb.cast());
            seen.flag_found = (first, flag.read_volatile()) == (1, 1) && without <= 1;
        }
        set(ptr::null_mut());
        libc::pthread_key_delete(key);
    }
    seen.shots = shots;
    let modules = modules::collect(seen.tcb, seen.room, seen.state.clone());
    seen.hash_keys = hash_keys::find(seen.tcb, &modules.segments);
    seen.modules = Some(modules);
    ptr::null_mut()
}

impl Seen {
    /// The word at an offset from the FS base, in one of the shots.
    fn word(&self, shot: usize, at: isize) -> usize {
        let Shot { segment, control } = &self.shots[shot];
        match usize::try_from(at) {
            Ok(at) => control[at / WORD],
            Err(_) => segment[(at - self.segment.start).cast_unsigned() / WORD],
        }
    }

    /// The control block.
    fn control(&self) -> Range<isize> {
        0..(self.shots[AT_FIRST].control.len() * WORD).cast_signed()
    }

    /// Offsets of the words in `range` for which `test` holds.
    fn find(&self, range: Range<isize>, test: impl Fn(isize) -> bool) -> Vec<isize> {
        range.step_by(WORD).filter(|at| test(*at)).collect()
    }

    /// The one word of the control block that is `value`.
    fn field(&self, value: usize, what: &str) -> Result<usize, Unsupported> {
        match self.find(self.control(), |at| self.word(AT_FIRST, at) == value)[..] {
            [at] => Ok(at.cast_unsigned()),
            ref found => Err(Unsupported::new(format!("{} fields of the control block look like {what}", found.len()))),
        }
    }

    /// The words of libc's segment that its malloc has filled in; none if the allocator is another one.
    fn carried(&self) -> Result<Vec<isize>, Unsupported> {
        // What another allocator changes there is at most an error number.
        // SAFETY: the addresses of two words of the calling thread's, which have no preconditions.
        let errors = unsafe { [libc::__errno_location(), h_errno_location()].map(|at| at as usize) };
        let mine = fsbase::current();
        let is_error = |at: isize| {
            let at = mine.wrapping_add_signed(at);
            errors.iter().any(|error| (at..at + WORD).contains(error))
        };
        let changed = self
            .find(self.segment.clone(), |at| self.word(AT_FIRST, at) != self.word(AFTER_MALLOC, at) && !is_error(at));
        match changed.len() {
            0 if malloc_is_libcs()? => Err(Unsupported::new("malloc leaves no trace")),
            0..=MOST_CARRIED => Ok(changed),
            n => Err(Unsupported::new(format!("malloc changes {n} words of its thread-locals"))),
        }
    }

    fn interpret(self, symbols: Symbols, numbers: &Numbers) -> Result<Layout, Unsupported> {
        let &Numbers { tcb_size, static_size, align, specific, tid } = numbers;
        let within = |value: usize| (self.tcb..self.tcb + tcb_size).contains(&value);
        let mut self_pointers = self.find(self.control(), |at| within(self.word(AT_FIRST, at)));
        self_pointers.extend(self.find(self.segment.clone(), |at| within(self.word(AT_FIRST, at))));
        let self_pointers =
            self_pointers.into_iter().map(|at| (at, self.word(AT_FIRST, at) - self.tcb)).collect::<Vec<_>>();
        if !self_pointers.contains(&(0, 0)) || !self_pointers.contains(&(16, 0)) {
            return Err(Unsupported::new("the control block does not begin as the x86-64 ABI says"));
        }
        let control = self.shots[AT_FIRST].control.as_ptr().cast::<u8>();
        // SAFETY: the field lies in the control block, of which we have a copy in words.
        let seen_tid = (tid + 4 <= tcb_size).then(|| unsafe { control.add(tid).cast::<u32>().read() });
        if seen_tid != Some(self.kernel_tid) {
            return Err(Unsupported::new("the kernel's thread id is not where debuggers are told to look"));
        }
        if !self_pointers.iter().any(|(at, _)| *at == specific.cast_signed()) {
            return Err(Unsupported::new("the table of pthread keys is not where debuggers are told to look"));
        }
        if self.key_error {
            return Err(Unsupported::new("no pthread key for the experiment"));
        }
        if !self.flag_found {
            return Err(Unsupported::new("a pthread key's value does not set the flag behind the table of keys"));
        }
        let changed = |at: &isize| self.word(AFTER_MALLOC, *at) != self.word(AFTER_LOCALE, *at);
        let locale = self.find(self.segment.clone(), |at| self.word(AFTER_LOCALE, at) == self.locale);
        let [locale] = locale.into_iter().filter(changed).collect::<Vec<_>>()[..] else {
            return Err(Unsupported::new("uselocale leaves no trace"));
        };
        let carried = self.carried()?;
        let stack_address = self.field(self.stack, "the stack's address")?;
        let stack_size = self.field(self.stack_size, "the stack's size")?;
        let locale = (locale, self.word(AFTER_MALLOC, locale));
        let rseq = rseq(tcb_size, static_size)?;
        modules::publish(self.modules.expect("the helper ran"));
        Ok(Layout {
            symbols,
            tcb_size,
            static_size,
            align,
            tid,
            specific,
            specific_used: numbers.behind_keys(),
            stack_address,
            stack_size,
            rseq,
            self_pointers,
            locale,
            carried,
            hash_keys: self.hash_keys,
        })
    }
}

unsafe extern "C" {
    #[link_name = "__h_errno_location"]
    safe fn h_errno_location() -> *mut i32;
}

/// Whether the program's `malloc` is libc's own.
fn malloc_is_libcs() -> Result<bool, Unsupported> {
    let [malloc, libcs] = [symbol(c"malloc")?, symbol(c"_thread_db_sizeof_pthread")?].map(|address| {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: an address of a loaded library, and a record for the answer; all zeros is one, too.
        unsafe {
            libc::dladdr(address, info.as_mut_ptr());
            info.assume_init().dli_fbase
        }
    });
    Ok(malloc == libcs)
}

/// Where the area for restartable sequences is, from the FS base; `None`: this glibc has none.
fn rseq(tcb_size: usize, static_size: usize) -> Result<Option<isize>, Unsupported> {
    // SAFETY: with this name glibc 2.35 and later have the distance from the FS base.
    let Ok(at) = symbol(c"__rseq_offset").map(|at| unsafe { at.cast::<isize>().read() }) else { return Ok(None) };
    let below = (static_size - tcb_size).cast_signed();
    // The first words of a control block are the ABI's.
    let fits = (-below..=-RSEQ_SIZE).contains(&at) || (128..=tcb_size.cast_signed() - RSEQ_SIZE).contains(&at);
    if !fits {
        return Err(Unsupported::new(format!("the area for restartable sequences is at {at}, outside of the block")));
    }
    Ok(Some(at))
}
