//! Finds, by experiments on a helper thread, the parts of the running glibc's layout that no symbol names.
//!
//! The address and size of its stack are known. The thread searches its control block for them, for its kernel thread id,
//! and for words that point into the block itself. Then it calls functions of libc for the first time, between *snapshots*
//! of its control block and of libc's segment, to see which words change: by malloc, `uselocale`, a failed `dlsym`,
//! `getrandom` and `pthread_setcancelstate`. The program's allocator need not be libc's, and may use thread-locals and
//! pthread keys of its own at any time.
//!
//! Some of these words are necessary for isolation; the others ([`Layout::load_error`], `cancel`, `random_state`,
//! `hash_keys`) only let goroutines start in the state of a new thread, or (`robust`) serve those that lock their thread.

use super::block::forget_load_error;
use super::error::{Failure, Unsupported};
use super::fsbase;
use super::glibc::{Numbers, rseq, symbol};
use super::hash_keys;
use super::layout::{Bits, Layout, MOST_CARRIED, RSEQ_SIZE, Robust, Symbols, WORD};
use super::modules::{self, Modules, Segment, State};
use crate::memory::page_size;
use std::ffi::c_void;
use std::io::Error;
use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::ptr;

/// The helper's stack beside its thread-locals: a size that no other field of a control block has by accident.
const HELPER_STACK: usize = 0x4_3000;

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
const BEFORE_ERROR: usize = 3;
const AFTER_ERROR: usize = 4;
const AFTER_RANDOM: usize = 5;
const AFTER_CANCEL: usize = 6;
const SHOTS: usize = 7;

/// What the helper thread saw of itself. Filled in by it, read after it was joined.
pub(super) struct Seen {
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
    shots: [Shot; SHOTS],
    /// As it was before the helper.
    state: State,
    modules: Option<Modules>,
    hash_keys: Option<isize>,
}

pub(super) fn look(numbers: &Numbers, libc: &Segment) -> Result<Seen, Failure> {
    let start = -(libc.below.next_multiple_of(WORD).cast_signed());
    let segment = start..start + libc.initial.size.next_multiple_of(WORD).cast_signed();
    let shot = || Shot { segment: vec![0; segment.len() / WORD], control: vec![0; numbers.tcb_size / WORD] };
    let mut seen = Seen {
        shots: std::array::from_fn(|_| shot()),
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
            return Err(Failure::refused(
                "no memory for the thread that examines thread-locals",
                &Error::last_os_error(),
            ));
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
            return Err(Failure::refused("no thread to examine thread-locals", &Error::from_raw_os_error(code)));
        }
    }
    Ok(seen)
}

/// The helper: allocates nothing before the first malloc that is under observation.
extern "C" fn look_at_myself(seen: *mut c_void) -> *mut c_void {
    // SAFETY: `look` waits for us, and passes its own.
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
        shoot(BEFORE_ERROR);
        libc::dlsym(libc::RTLD_DEFAULT, c"gorun has no such symbol".as_ptr());
        shoot(AFTER_ERROR);
        forget_load_error();
        let mut byte = 0_u8;
        libc::getrandom((&raw mut byte).cast(), 1, 0);
        shoot(AFTER_RANDOM);
        set_cancel(1, 1);
        shoot(AFTER_CANCEL);
        set_cancel(0, 0);
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

    /// The words of libc's segment that changed from one shot to another, but for error numbers.
    fn changed(&self, before: usize, after: usize) -> Vec<isize> {
        // SAFETY: the addresses of two words of the calling thread's, which have no preconditions.
        let errors = unsafe { [libc::__errno_location(), h_errno_location()].map(|at| at as usize) };
        let mine = fsbase::current();
        let is_error = |at: isize| {
            let at = mine.wrapping_add_signed(at);
            errors.iter().any(|error| (at..at + WORD).contains(error))
        };
        self.find(self.segment.clone(), |at| self.word(before, at) != self.word(after, at) && !is_error(at))
    }

    /// The word that a failed `dlsym` has made non-zero, if it is one, and `dlerror` zero again.
    fn load_error(&self) -> Option<isize> {
        let is_empty = |shot, at| self.word(shot, at) == 0;
        match self.changed(BEFORE_ERROR, AFTER_ERROR)[..] {
            [at] if is_empty(BEFORE_ERROR, at) && is_empty(AFTER_RANDOM, at) => Some(at),
            _ => None,
        }
    }

    /// The word of the control block that `getrandom` has filled in, if it is one.
    fn random_state(&self, rseq: Option<isize>) -> Option<usize> {
        let filled = |at| self.word(AFTER_ERROR, at) == 0 && self.word(AFTER_RANDOM, at) > u32::MAX as usize;
        let found = self.find(self.control(), |at| filled(at) && !is_in_rseq(rseq, at));
        match found[..] {
            [at] => Some(at.cast_unsigned()),
            _ => None,
        }
    }

    /// The bits that tell whether and how the thread can be canceled, if they are all in one word.
    fn cancel(&self, rseq: Option<isize>) -> Option<Bits> {
        let differ = |at| self.word(AFTER_RANDOM, at) ^ self.word(AFTER_CANCEL, at);
        match self.find(self.control(), |at| differ(at) != 0 && !is_in_rseq(rseq, at))[..] {
            [at] => Some(Bits { at, mask: differ(at), usual: self.word(AFTER_RANDOM, at) & differ(at) }),
            _ => None,
        }
    }

    /// The list of robust mutexes, which is empty: two words in a row point to the second, its head. The next says how far
    /// it is from a mutex's link to its futex word, which comes before it, and in the last one nothing is pending.
    fn robust(&self, self_pointers: &[(isize, usize)]) -> Option<Robust> {
        let words = WORD.cast_signed();
        let points = |at: isize, to: isize| self_pointers.contains(&(at, to.cast_unsigned()));
        let found = self.find(self.control(), |at| at > 0 && points(at, at) && points(at - words, at));
        let [at] = found[..] else { return None };
        if !self.control().contains(&(at + 2 * words)) {
            return None;
        }
        let futex_offset = self.word(AT_FIRST, at + words);
        let is_near = (-128..0).contains(&futex_offset.cast_signed());
        (is_near && self.word(AT_FIRST, at + 2 * words) == 0).then_some(Robust { at, futex_offset })
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
            0 if malloc_is_libcs()? => Err(Unsupported::new("malloc changes no thread-local")),
            0..=MOST_CARRIED => Ok(changed),
            n => Err(Unsupported::new(format!("malloc changes {n} words of its thread-locals"))),
        }
    }

    pub(super) fn interpret(self, symbols: Symbols, numbers: &Numbers) -> Result<Layout, Unsupported> {
        let &Numbers { tcb_size, static_size, align, specific, tid, list } = numbers;
        let within = |value: usize| (self.tcb..self.tcb + tcb_size).contains(&value);
        let mut self_pointers = self.find(self.control(), |at| within(self.word(AT_FIRST, at)));
        self_pointers.extend(self.find(self.segment.clone(), |at| within(self.word(AT_FIRST, at))));
        let self_pointers =
            self_pointers.into_iter().map(|at| (at, self.word(AT_FIRST, at) - self.tcb)).collect::<Vec<_>>();
        if !self_pointers.contains(&(0, 0)) || !self_pointers.contains(&(16, 0)) {
            return Err(Unsupported::new("the control block does not begin as the x86-64 ABI requires"));
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
            return Err(Unsupported::new("uselocale changes no thread-local"));
        };
        let (carried, load_error) = (self.carried()?, self.load_error());
        let stack_address = self.field(self.stack, "the stack's address")?;
        let stack_size = self.field(self.stack_size, "the stack's size")?;
        let locale = (locale, self.word(AFTER_MALLOC, locale));
        let rseq = rseq(tcb_size, static_size)?;
        // A thread is in one of the lists.
        let is_linked = |at: &usize| [*at, at + WORD].iter().all(|at| self.word(AT_FIRST, at.cast_signed()) != 0);
        let list = list.filter(is_linked);
        let (cancel, random_state) = (self.cancel(rseq), self.random_state(rseq));
        let robust = self.robust(&self_pointers);
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
            load_error,
            cancel,
            random_state,
            robust,
            hash_keys: self.hash_keys,
            list,
        })
    }
}

unsafe extern "C" {
    #[link_name = "__h_errno_location"]
    safe fn h_errno_location() -> *mut i32;
    fn pthread_setcancelstate(state: i32, old: *mut i32) -> i32;
    fn pthread_setcanceltype(kind: i32, old: *mut i32) -> i32;
}

/// Returns true if the word there is, in part, of the area into which the kernel writes at any time.
fn is_in_rseq(rseq: Option<isize>, at: isize) -> bool {
    rseq.is_some_and(|rseq| (rseq - WORD.cast_signed() + 1..rseq + RSEQ_SIZE).contains(&at))
}

/// For the calling thread, which nobody cancels: 0 and 0 are usual.
fn set_cancel(state: i32, kind: i32) {
    let mut old = 0;
    // SAFETY: numbers that libc knows, and a place for the old ones.
    unsafe {
        pthread_setcancelstate(state, &raw mut old);
        pthread_setcanceltype(kind, &raw mut old);
    }
}

/// Returns true if the program's `malloc` is libc's own.
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
