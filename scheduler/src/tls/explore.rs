//! Finds out what the running glibc looks like inside: by name where it tells, by experiment where it does not.
//!
//! Called once, by `availability`. The experiments are in `probe`.

use super::error::{Failure, Unsupported};
use super::glibc::{MOST_TCB, Numbers, field, function, symbol};
use super::layout::{KEY_BLOCKS, Layout, Symbols, WORD};
use super::modules::{self, State};
use super::{fsbase, probe};

/// Each stack slot has room for all static thread-locals: with more than so many bytes it is no place for them.
const MOST_STATIC: usize = 1 << 26;
const MOST_ALIGN: usize = 1 << 16;

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
    Ok(probe::look(&numbers, &libc)?.interpret(symbols, &numbers)?)
}
