//! From a closure that the crate above has erased to a runnable goroutine: at most six named steps.
//!
//! A stack is only reserved here, by count, and taken at the goroutine's first turn: a million queued goroutines
//! then need no million stacks. Where guard pages need mappings of their own (kernels before 6.13), which can run
//! out, the stack is taken at once, so that running out is an error here and not a crash later.
//!
//! Called by `gorun::go` and its kin through [`Scheduler::spawn`](crate::Scheduler) or [`spawn_here`].

use crate::base::process;
use crate::config::{SpawnError, ThreadLocals, class_for};
use crate::goroutine::block::{Birth, Entry, Ref};
use crate::goroutine::current;
use crate::goroutine::handle::Handle;
use crate::goroutine::handle::give_back_unused;
use crate::goroutine::runtime_head::RUNNING;
use crate::goroutine::slab::take_block;
use crate::memory::{self, StackClass, StackError};
use crate::processor::core::Processor;
use crate::processor::shared::Shared;
use crate::stack::coroutine::Carrier;
use crate::tls;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// What to spawn, beside the payload.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What runs, cancels and drops the payload.
    pub entry: &'static Entry,
    /// Shown in reports.
    pub name: Option<Arc<str>>,
    /// Bytes of stack; the runtime's default if `None`.
    pub stack_size: Option<usize>,
    /// Whose thread-locals it sees; as the runtime has it if `None`.
    pub thread_locals: Option<ThreadLocals>,
    /// If true, it begins with clones of what its spawner has under inheritable keys.
    pub inherits: bool,
    /// Where the goroutine was spawned.
    pub site: &'static Location<'static>,
}

/// Spawns on the runtime of the current goroutine; `None` outside of one.
///
/// `write` is given the payload ([`crate::PAYLOAD`] bytes, 16-aligned) and moves the closure in. It isn't called
/// when the result is an error.
///
/// # Safety
/// What `write` leaves is what `spec.entry` expects, and may be used on another thread.
///
/// # Errors
/// When the goroutine can't be had: see [`SpawnError`].
///
/// ```
#[doc = include_str!("../examples.txt")]
/// // SAFETY: nothing is written: a plain thread calls.
/// assert!(unsafe { spawn_here(&spec(), |_| unreachable!()) }.is_none(), "no goroutine calls");
/// join(&go(|| {
///     let job: Job = Box::new(|| assert!(in_goroutine()));
///     // SAFETY: the entry takes a `Job` out of the payload, and that is Send.
///     let child = unsafe { spawn_here(&spec(), |payload| payload.cast::<Job>().write(job)) };
///     join(&child.unwrap().unwrap());
/// }));
/// ```
pub unsafe fn spawn_here(spec: &Spec, write: impl FnOnce(*mut u8)) -> Option<Result<Handle, SpawnError>> {
    // A goroutine that does nothing but spawn lets what it spawned have its turn.
    crate::wait::park::breathe();
    let mut processor = Processor::current()?;
    if current::goroutine().is_some_and(|g| processor.spawns_ahead(g)) && processor.shared.spares.can_be_had() {
        crate::wait::park::let_begin();
        processor = Processor::current()?;
    }
    // SAFETY: by the caller.
    Some(unsafe { spawn_on(&processor.shared, Some(processor), spec, write) })
}

/// # Safety
/// As [`spawn_here`]; `processor`, if any, is of `shared`, and the current one or that of the worker who calls.
pub(crate) unsafe fn spawn_on(
    shared: &Arc<Shared>,
    processor: Option<&Processor>,
    spec: &Spec,
    write: impl FnOnce(*mut u8),
) -> Result<Handle, SpawnError> {
    let class = match spec.stack_size {
        None => shared.class,
        Some(bytes) => class_for(bytes).map_err(SpawnError::Stack)?,
    };
    let mode = match spec.thread_locals {
        None => shared.mode,
        Some(ThreadLocals::Pinned) => ThreadLocals::Pinned,
        Some(ThreadLocals::Isolated) => {
            tls::layout().map_err(|refusal| SpawnError::Isolation(refusal.into_reason()))?;
            ThreadLocals::Isolated
        }
    };
    let birth = |id| Birth { id, class, mode, entry: spec.entry, name: spec.name.clone(), site: spec.site };
    match processor {
        Some(processor) => {
            let stack = stack_here(processor, class, mode).map_err(SpawnError::Stack)?;
            let Some(g) = take_block(Some(&processor.head.blocks)) else {
                give_up_stack(stack, class);
                return Err(SpawnError::OutOfMemory);
            };
            let back = Unpublished { g, class };
            g.prepare(birth(processor.take_id()), shared.as_runtime());
            if let Some(carrier) = stack {
                g.carrier.set(carrier.as_ptr());
            }
            inherit(spec, g);
            back.keep();
            write(g.payload());
            // An inherit hook may have suspended us: the processor is asked for anew (R1). A worker that starts a
            // goroutine for a timer is none that could have been.
            // And with it what it holds: the one we began with may be gone, with its worker's thread.
            let processor = Processor::current().unwrap_or(processor);
            let shared = &processor.shared;
            processor.seat_ref().count_spawn();
            g.publish(2);
            g.is_born(&shared.head, || current::goroutine().is_some_and(|spawner| spawner.exiting.get()));
            processor.push_unbegun(g);
            // SAFETY: the second of the references counted above.
            Ok(unsafe { Handle::adopt(g) })
        }
        None => {
            if process::is_parents(shared.head.process) {
                return Err(SpawnError::Forked);
            }
            let stack = stack_outside(shared, class, mode).map_err(SpawnError::Stack)?;
            let Some(g) = take_block(None) else {
                give_up_stack(stack, class);
                return Err(SpawnError::OutOfMemory);
            };
            let back = Unpublished { g, class };
            g.prepare(birth(current::take_ids(1)), shared.as_runtime());
            if let Some(carrier) = stack {
                g.carrier.set(carrier.as_ptr());
            }
            inherit(spec, g);
            // Counted, then the phase: a drain either sees us or is seen (`Shared::phase`).
            shared.count_outside_spawn();
            if shared.phase() != RUNNING {
                drop(back);
                shared.uncount_outside_spawn();
                return Err(SpawnError::ShutDown);
            }
            back.keep();
            write(g.payload());
            g.publish(2);
            g.is_born(&shared.head, || false);
            shared.inject(g);
            // SAFETY: the second of the references counted above.
            Ok(unsafe { Handle::adopt(g) })
        }
    }
}

/// Reserves a stack, and takes it at once where it has to be.
#[inline]
fn stack_here(
    processor: &Processor,
    class: StackClass,
    mode: ThreadLocals,
) -> Result<Option<NonNull<Carrier>>, StackError> {
    if !memory::guards_need_mappings() && processor.reserve_at_hand(class) {
        return Ok(None);
    }
    stack_from_afar(processor, class, mode)
}

/// When there is none to reserve: the free ones that are kept warm have reservations, too.
#[cold]
#[inline(never)]
fn stack_from_afar(
    processor: &Processor,
    class: StackClass,
    mode: ThreadLocals,
) -> Result<Option<NonNull<Carrier>>, StackError> {
    match processor.reserve_stack(class) {
        Ok(()) if memory::guards_need_mappings() => {
            let taken = processor.take_carrier(class, mode);
            taken.map(Some).inspect_err(|_| processor.unreserve_stack(class))
        }
        Ok(()) => Ok(None),
        Err(error) => processor.take_warm(class, mode).map(Some).ok_or(error),
    }
}

/// The same for a thread that is no worker.
fn stack_outside(
    shared: &Shared,
    class: StackClass,
    mode: ThreadLocals,
) -> Result<Option<NonNull<Carrier>>, StackError> {
    match memory::reserve(class, 1) {
        Ok(()) if memory::guards_need_mappings() => {
            // Those that are kept warm have their guards, and a reservation each.
            let warm = if class == shared.class { shared.warm.take_one(mode) } else { None };
            if warm.is_some() {
                memory::unreserve(class, 1);
                return Ok(warm);
            }
            let taken = Carrier::create(class, mode, shared.body);
            taken.map(Some).inspect_err(|_| memory::unreserve(class, 1))
        }
        Ok(()) => Ok(None),
        Err(error) if class != shared.class => Err(error),
        Err(error) => shared.warm.take_one(mode).map(Some).ok_or(error),
    }
}

#[cold]
fn give_up_stack(carrier: Option<NonNull<Carrier>>, class: StackClass) {
    if let Some(carrier) = carrier {
        // SAFETY: K1, K3: it was taken for a goroutine that there will not be.
        unsafe { Carrier::release(carrier, true) };
    }
    memory::unreserve(class, 1);
}

/// What the parent's inheritable keys hold goes to the child.
fn inherit(spec: &Spec, child: Ref) {
    if spec.inherits
        && let Some(parent) = current::record()
    {
        // SAFETY: the record is the caller's own and stays while it runs (T2).
        unsafe { parent.as_ref() }.inherit_into(&child.locals);
    }
}

/// A block between the slab and `publish`: an unwinding clone hook, or a refusal, gives everything back.
struct Unpublished {
    g: Ref,
    class: StackClass,
}

impl Unpublished {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        self.g.locals.run_exit();
        give_up_stack(NonNull::new(self.g.carrier.replace(ptr::null_mut())), self.class);
        give_back_unused(self.g);
    }
}
