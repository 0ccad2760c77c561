//! Auto traits and variance of every public type, against the table in `docs/types.md`.
//!
//! What must not compile is there, as `compile_fail` programs; here is what must, and what a type is for which kinds of
//! `T`. `BLESS=1` writes the table anew.

use std::cell::Cell;
use std::marker::{PhantomData, PhantomPinned};
use std::panic::{RefUnwindSafe, UnwindSafe};

/// Of `Probe<T>`, an inherent constant goes before the trait's, where its bound holds.
struct Probe<T: ?Sized>(PhantomData<T>);

trait Otherwise {
    const SEND: bool = false;
    const SYNC: bool = false;
    const UNWIND_SAFE: bool = false;
    const REF_UNWIND_SAFE: bool = false;
    const UNPIN: bool = false;
}
impl<T: ?Sized> Otherwise for Probe<T> {}
impl<T: ?Sized + Send> Probe<T> {
    const SEND: bool = true;
}
impl<T: ?Sized + Sync> Probe<T> {
    const SYNC: bool = true;
}
impl<T: ?Sized + UnwindSafe> Probe<T> {
    const UNWIND_SAFE: bool = true;
}
impl<T: ?Sized + RefUnwindSafe> Probe<T> {
    const REF_UNWIND_SAFE: bool = true;
}
impl<T: ?Sized + Unpin> Probe<T> {
    const UNPIN: bool = true;
}

/// What a type is for each kind of `T`: with both of two traits, with the first only, the second only, neither.
type Kinds = [bool; 4];

fn condition(kinds: Kinds, [a, b]: [&str; 2]) -> String {
    match kinds {
        [true, true, true, true] => "yes".into(),
        [true, true, false, false] => format!("`T: {a}`"),
        [true, false, true, false] => format!("`T: {b}`"),
        [true, false, false, false] => format!("`T: {a} + {b}`"),
        [false, false, false, false] => "no".into(),
        odd => panic!("no condition that the table has words for: {odd:?}"),
    }
}

/// A type that is `Sync` and not `Send`.
type OnlySync = std::sync::MutexGuard<'static, u8>;
type NoUnwind = &'static mut u8;
type NoRefUnwind = Cell<u8>;
type NoneOfUnwind = &'static Cell<u8>;

macro_rules! rows {
    ($($name:literal $variance:literal $(of $T:ident)?: $t:ty;)*) => {
        vec![$(row!($name $variance $(of $T)?: $t)),*]
    };
}

macro_rules! row {
    ($name:literal $variance:literal: $t:ty) => {
        row!(@ $name $variance: [$t, $t, $t, $t] [$t, $t, $t, $t] [$t, $t])
    };
    ($name:literal $variance:literal of $T:ident: $t:ty) => {{
        type Of<$T> = $t;
        row!(@ $name $variance:
            [Of<u8>, Of<Cell<u8>>, Of<OnlySync>, Of<*mut u8>]
            [Of<u8>, Of<NoRefUnwind>, Of<NoUnwind>, Of<NoneOfUnwind>]
            [Of<u8>, Of<PhantomPinned>])
    }};
    (@ $name:literal $variance:literal:
        [$($across:ty),*] [$($unwinds:ty),*] [$moves:ty, $pinned:ty]
    ) => {
        [
            format!("`{}`", $name),
            condition([$(Probe::<$across>::SEND),*], ["Send", "Sync"]),
            condition([$(Probe::<$across>::SYNC),*], ["Send", "Sync"]),
            condition([$(Probe::<$unwinds>::UNWIND_SAFE),*], ["UnwindSafe", "RefUnwindSafe"]),
            condition([$(Probe::<$unwinds>::REF_UNWIND_SAFE),*], ["UnwindSafe", "RefUnwindSafe"]),
            match (Probe::<$moves>::UNPIN, Probe::<$pinned>::UNPIN) {
                (true, true) => "yes",
                (true, false) => "`T: Unpin`",
                _ => "no",
            }
            .to_string(),
            $variance.to_string(),
        ]
    };
}

type Row = [String; 7];

fn table() -> Vec<Row> {
    use gorun::{
        Goroutine, GoroutineId, JoinError, JoinHandle, OsThreadLock, Scope, ScopedJoinHandle, SpawnError, StackError,
    };
    use gorun::{chan::*, context::*, local::*, net::*, runtime::*, select::*, sync::*, time::*};
    rows! {
        "Builder" "": gorun::Builder;
        "Goroutine" "": Goroutine;
        "GoroutineId" "": GoroutineId;
        "JoinHandle<T>" "covariant" of T: JoinHandle<T>;
        "JoinError" "": JoinError;
        "OsThreadLock" "": OsThreadLock;
        "Scope<'scope, 'env>" "invariant": Scope<'static, 'static>;
        "ScopedJoinHandle<'scope, T>" "covariant in 'scope, invariant in T" of T: ScopedJoinHandle<'static, T>;
        "SpawnError" "": SpawnError;
        "StackError" "": StackError;
        "Sender<T>" "invariant" of T: Sender<T>;
        "Receiver<T>" "invariant" of T: Receiver<T>;
        "chan::SendFuture<'a, T>" "covariant in 'a, invariant in T" of T: SendFuture<'static, T>;
        "chan::RecvFuture<'a, T>" "covariant in 'a, invariant in T" of T: RecvFuture<'static, T>;
        "chan::RecvStream<T>" "invariant" of T: RecvStream<T>;
        "chan::Iter<'a, T>" "covariant in 'a, invariant in T" of T: gorun::chan::Iter<'static, T>;
        "chan::TryIter<'a, T>" "covariant in 'a, invariant in T" of T: TryIter<'static, T>;
        "chan::IntoIter<T>" "invariant" of T: gorun::chan::IntoIter<T>;
        "chan::SendError<T>" "covariant" of T: SendError<T>;
        "chan::TrySendError<T>" "covariant" of T: TrySendError<T>;
        "chan::SendTimeoutError<T>" "covariant" of T: SendTimeoutError<T>;
        "chan::RecvError" "": RecvError;
        "chan::TryRecvError" "": TryRecvError;
        "chan::RecvTimeoutError" "": RecvTimeoutError;
        "select::Select<'a>" "invariant": Select<'static>;
        "select::SelectedOperation<'a>" "invariant": SelectedOperation<'static>;
        "select::TrySelectError" "": TrySelectError;
        "select::SelectTimeoutError" "": SelectTimeoutError;
        "select::TryReadyError" "": TryReadyError;
        "select::ReadyTimeoutError" "": ReadyTimeoutError;
        "context::Context" "": Context;
        "context::CancelFunc" "": CancelFunc;
        "context::CancelCauseFunc" "": CancelCauseFunc;
        "context::AfterFunc" "": AfterFunc;
        "context::ContextError" "": ContextError;
        "local::LocalKey<T>" "invariant" of T: LocalKey<T>;
        "local::AccessError" "": AccessError;
        "net::TcpListener" "": TcpListener;
        "net::TcpStream" "": TcpStream;
        "net::Incoming<'a>" "covariant": Incoming<'static>;
        "runtime::Builder" "": gorun::runtime::Builder;
        "runtime::Runtime" "": Runtime;
        "runtime::Metrics" "": Metrics;
        "runtime::LongRunning" "": LongRunning;
        "runtime::LeftBehind" "": LeftBehind;
        "runtime::ShutdownError" "": ShutdownError;
        "runtime::BuildError" "": BuildError;
        "runtime::ThreadLocals" "": ThreadLocals;
        "runtime::Unsupported" "": Unsupported;
        "sync::Mutex<T>" "invariant" of T: Mutex<T>;
        "sync::MutexGuard<'a, T>" "covariant in 'a, invariant in T" of T: MutexGuard<'static, T>;
        "sync::MappedMutexGuard<'a, T>" "covariant in 'a, invariant in T" of T: MappedMutexGuard<'static, T>;
        "sync::RwLock<T>" "invariant" of T: RwLock<T>;
        "sync::RwLockReadGuard<'a, T>" "covariant in 'a, invariant in T" of T: RwLockReadGuard<'static, T>;
        "sync::RwLockWriteGuard<'a, T>" "covariant in 'a, invariant in T" of T: RwLockWriteGuard<'static, T>;
        "sync::MappedRwLockReadGuard<'a, T>" "covariant" of T: MappedRwLockReadGuard<'static, T>;
        "sync::MappedRwLockWriteGuard<'a, T>" "covariant in 'a, invariant in T" of T: MappedRwLockWriteGuard<'static, T>;
        "sync::RawMutex" "": RawMutex;
        "sync::RawRwLock" "": RawRwLock;
        "sync::Condvar" "": Condvar;
        "sync::WaitTimeoutResult" "": WaitTimeoutResult;
        "sync::Once" "": Once;
        "sync::OnceState" "": OnceState;
        "sync::OnceLock<T>" "invariant" of T: OnceLock<T>;
        "sync::LazyLock<T>" "invariant" of T: LazyLock<T>;
        "sync::LazyLock<u8, F>, by F" "covariant in F" of T: LazyLock<u8, T>;
        "sync::Semaphore" "": Semaphore;
        "sync::Permit<&'a Semaphore>" "covariant": Permit<&'static Semaphore>;
        "sync::Permit<Arc<Semaphore>>" "": Permit<std::sync::Arc<Semaphore>>;
        "sync::Barrier" "": Barrier;
        "sync::BarrierWaitResult" "": BarrierWaitResult;
        "sync::Pool<T>" "invariant" of T: Pool<T>;
        "sync::Pool<u8, F>, by F" "covariant in F" of T: Pool<u8, T>;
        "sync::SingleFlight<u8, V>, by V" "invariant" of T: SingleFlight<u8, T>;
        "sync::SingleFlight<K, u8>, by K" "invariant" of T: SingleFlight<T, u8>;
        "sync::ErrGroup<E>" "invariant" of T: ErrGroup<T>;
        "sync::WaitGroup" "": WaitGroup;
        "time::Timer" "": Timer;
        "time::Ticker" "": Ticker;
        "time::Elapsed" "": Elapsed;
    }
}

fn written(rows: Vec<Row>) -> String {
    let mut text = String::from("| type | `Send` | `Sync` | `UnwindSafe` | `RefUnwindSafe` | `Unpin` | variance |\n");
    text += "|---|---|---|---|---|---|---|\n";
    for row in rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}

const BEGIN: &str = "<!-- the table: BLESS=1 cargo test --test types -->\n";
const END: &str = "<!-- the end of the table -->\n";

fn table_of_the_scheduler() -> Vec<Row> {
    use gorun_scheduler::*;
    struct Silent<T>(PhantomData<fn(T) -> T>);
    impl<T: 'static> Alarm for Silent<T> {
        fn ring(&self, _due: Moment, _now: Moment) -> Rung {
            unreachable!()
        }
    }
    rows! {
        "Begun<'a>" "covariant": Begun<'static>;
        "Blocker" "": Blocker;
        "Completion" "": Completion;
        "Config" "": Config;
        "ConfigError" "": ConfigError;
        "Direction" "": Direction;
        "Entry" "": Entry;
        "Goroutine" "": Goroutine;
        "Handle" "": Handle;
        "Kind" "": Kind;
        "LeftBehind" "": LeftBehind;
        "Locals" "": Locals;
        "LongRunning" "": LongRunning;
        "Look<'a, V>" "covariant" of T: Look<'static, T>;
        "Metrics" "": Metrics;
        "Moment" "": Moment;
        "Note<'a>" "covariant": Note<'static>;
        "Parker" "": Parker;
        "PerProcess<T>" "invariant" of T: PerProcess<T>;
        "Remote" "": Remote;
        "Rung" "": Rung;
        "Scheduler" "": Scheduler;
        "ShortGuard<'a, T>" "covariant in 'a, invariant in T" of T: ShortGuard<'static, T>;
        "ShortLock<T>" "invariant" of T: ShortLock<T>;
        "Source<T>" "covariant" of T: Source<T>;
        "Spawner<'a>" "covariant": Spawner<'static>;
        "Spec" "": Spec;
        "Started" "": Started;
        "Stopper" "": Stopper;
        "Task" "": Task;
        "Timer<A>" "covariant": Timer<Silent<u8>>;
        "TimerHome" "": TimerHome;
        "Token" "": Token;
        "Unavailable" "": Unavailable;
        "Unwound" "": Unwound;
        "WaitQueue<S>" "invariant" of T: WaitQueue<T>;
        "WaitReason" "": WaitReason;
        "Waiter<S>" "invariant" of T: Waiter<T>;
        "Wake" "": Wake;
        "WeakTimer<A>" "covariant": WeakTimer<Silent<u8>>;
    }
}

#[test]
fn the_table_says_what_the_compiler_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/types.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let text = format!("{}\nTypes of `gorun-scheduler`:\n\n{}", written(table()), written(table_of_the_scheduler()));
    let right = format!("{before}{BEGIN}\n{text}\n{END}{after}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &right).unwrap();
    } else {
        assert!(document == right, "docs/types.md is out of date; it should have:\n{text}");
    }
}

/// Those that only macros name: nothing of them is safe to call wrongly.
const OF_MACROS: [&str; 7] = ["Arm", "Arms", "RecvArm", "SendArm", "Wait", "Key", "Mirror"];

#[test]
fn every_public_type_is_in_the_table() {
    fn collect(dir: &std::path::Path, names: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, names);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("pub "));
                let types = lines
                    .filter_map(|line| ["struct ", "enum ", "union "].iter().find_map(|kind| line.strip_prefix(kind)));
                names.extend(types.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric()).collect()));
            }
        }
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (dir, rows) in [("src", table()), ("scheduler/src", table_of_the_scheduler())] {
        let mut names = Vec::new();
        collect(&root.join(dir), &mut names);
        assert!(names.len() > 30, "{names:?}");
        // What the other crate exports again is in that one's table, too.
        let rows: Vec<_> = rows.iter().chain(&table()).map(|row| row[0].clone()).collect();
        for name in names.iter().filter(|name| !OF_MACROS.contains(&name.as_str())) {
            let is_it = |row: &String| row.split(|c: char| !c.is_alphanumeric()).any(|word| word == name);
            assert!(rows.iter().any(is_it), "{dir}: {name} is in no table: give it a row above, and say BLESS=1");
        }
    }
}

/// That a program of the document's is refused says something only if it is for the lifetime.
#[test]
fn each_line_that_is_refused_compiles_with_static() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/types.md")).unwrap();
    let blocks: Vec<&str> = document.split("```").skip(1).step_by(2).collect();
    let compiles = blocks.iter().find(|block| block.starts_with("\nfn sender(")).unwrap();
    let refused = blocks.iter().filter_map(|block| block.strip_prefix("compile_fail\nfn "));
    let mut count = 0;
    for line in refused.map(str::trim_end).filter(|line| line.contains("<'a>(")) {
        let right = line.replace("<'a>(", "(").replace("'a", "'static");
        assert!(compiles.contains(&right), "{right}");
        count += 1;
    }
    assert_eq!(count, compiles.trim().lines().count());
}

/// What is covariant, by the compiler's word.
mod covariant {
    use gorun::{chan::*, sync::*, *};

    macro_rules! shrink {
        ($($name:ident: $long:ty => $short:ty;)*) => {
            $(#[expect(dead_code, reason = "that it compiles is all")]
            fn $name<'a>(long: $long) -> $short {
                long
            })*
        };
    }

    shrink! {
        join_handle: JoinHandle<&'static str> => JoinHandle<&'a str>;
        scoped: ScopedJoinHandle<'static, u8> => ScopedJoinHandle<'a, u8>;
        send_future: SendFuture<'static, u8> => SendFuture<'a, u8>;
        recv_future: RecvFuture<'static, u8> => RecvFuture<'a, u8>;
        iter: chan::Iter<'static, u8> => chan::Iter<'a, u8>;
        try_iter: TryIter<'static, u8> => TryIter<'a, u8>;
        send_error: SendError<&'static str> => SendError<&'a str>;
        try_send_error: TrySendError<&'static str> => TrySendError<&'a str>;
        send_timeout_error: SendTimeoutError<&'static str> => SendTimeoutError<&'a str>;
        guard: MutexGuard<'static, u8> => MutexGuard<'a, u8>;
        mapped: MappedMutexGuard<'static, u8> => MappedMutexGuard<'a, u8>;
        read: RwLockReadGuard<'static, u8> => RwLockReadGuard<'a, u8>;
        write: RwLockWriteGuard<'static, u8> => RwLockWriteGuard<'a, u8>;
        mapped_read: MappedRwLockReadGuard<'static, &'static str> => MappedRwLockReadGuard<'a, &'a str>;
        mapped_write: MappedRwLockWriteGuard<'static, u8> => MappedRwLockWriteGuard<'a, u8>;
        lazy: LazyLock<u8, &'static str> => LazyLock<u8, &'a str>;
        pool: Pool<u8, &'static str> => Pool<u8, &'a str>;
        permit: sync::Permit<&'static Semaphore> => sync::Permit<&'a Semaphore>;
        incoming: net::Incoming<'static> => net::Incoming<'a>;
        source: gorun_scheduler::Source<&'static str> => gorun_scheduler::Source<&'a str>;
        begun: gorun_scheduler::Begun<'static> => gorun_scheduler::Begun<'a>;
        look: gorun_scheduler::Look<'static, &'static str> => gorun_scheduler::Look<'a, &'a str>;
        note: gorun_scheduler::Note<'static> => gorun_scheduler::Note<'a>;
        spawner: gorun_scheduler::Spawner<'static> => gorun_scheduler::Spawner<'a>;
        short_guard: gorun_scheduler::ShortGuard<'static, u8> => gorun_scheduler::ShortGuard<'a, u8>;
        timer: gorun_scheduler::Timer<&'static str> => gorun_scheduler::Timer<&'a str>;
        weak_timer: gorun_scheduler::WeakTimer<&'static str> => gorun_scheduler::WeakTimer<&'a str>;
    }
}

/// Each of ours has what its counterpart in std or crossbeam has.
#[test]
fn no_less_than_std_and_crossbeam() {
    macro_rules! at_least {
        (of $T:ident: $($ours:ty, $theirs:ty, ($($but:literal)?);)*) => {$({
            type Ours<$T> = $ours;
            type Theirs<$T> = $theirs;
            at_least!(@one Ours<u8>, Theirs<u8>, [$($but)?]);
            at_least!(@one Ours<Cell<u8>>, Theirs<Cell<u8>>, [$($but)?]);
            at_least!(@one Ours<OnlySync>, Theirs<OnlySync>, [$($but)?]);
            at_least!(@one Ours<*mut u8>, Theirs<*mut u8>, [$($but)?]);
            at_least!(@one Ours<NoUnwind>, Theirs<NoUnwind>, [$($but)?]);
            at_least!(@one Ours<NoneOfUnwind>, Theirs<NoneOfUnwind>, [$($but)?]);
            at_least!(@one Ours<PhantomPinned>, Theirs<PhantomPinned>, [$($but)?]);
        })*};
        ($($ours:ty, $theirs:ty;)*) => {
            $(at_least!(@one $ours, $theirs, []);)*
        };
        (@one $ours:ty, $theirs:ty, $but:expr) => {
            let but: &[&str] = &$but;
            for (name, ours, theirs) in [
                ("Send", Probe::<$ours>::SEND, Probe::<$theirs>::SEND),
                ("Sync", Probe::<$ours>::SYNC, Probe::<$theirs>::SYNC),
                ("UnwindSafe", Probe::<$ours>::UNWIND_SAFE, Probe::<$theirs>::UNWIND_SAFE),
                ("RefUnwindSafe", Probe::<$ours>::REF_UNWIND_SAFE, Probe::<$theirs>::REF_UNWIND_SAFE),
                ("Unpin", Probe::<$ours>::UNPIN, Probe::<$theirs>::UNPIN),
            ] {
                assert!(ours || !theirs || but.contains(&name), "{} is not {name}", stringify!($ours));
            }
        };
    }
    use gorun::{chan, select, sync};
    at_least! {
        gorun::JoinHandle<u8>, std::thread::JoinHandle<u8>;
        gorun::JoinError, tokio::task::JoinError;
        gorun::Goroutine, std::thread::Thread;
        gorun::Scope<'static, 'static>, std::thread::Scope<'static, 'static>;
        select::SelectedOperation<'static>, crossbeam_channel::SelectedOperation<'static>;
        sync::Condvar, std::sync::Condvar;
        sync::Once, std::sync::Once;
        sync::OnceState, std::sync::OnceState;
        sync::Barrier, std::sync::Barrier;
        sync::WaitGroup, std::sync::Barrier;
        sync::Semaphore, std::sync::Barrier;
    }
    at_least! { of T:
        gorun::JoinHandle<T>, tokio::task::JoinHandle<T>, ();
        gorun::ScopedJoinHandle<'static, T>, std::thread::ScopedJoinHandle<'static, T>, ();
        gorun::local::LocalKey<T>, std::thread::LocalKey<T>, ();
        gorun::Sender<T>, crossbeam_channel::Sender<T>, ();
        gorun::Receiver<T>, crossbeam_channel::Receiver<T>, ();
        chan::Iter<'static, T>, crossbeam_channel::Iter<'static, T>, ();
        chan::TryIter<'static, T>, crossbeam_channel::TryIter<'static, T>, ();
        chan::IntoIter<T>, crossbeam_channel::IntoIter<T>, ();
        chan::SendError<T>, crossbeam_channel::SendError<T>, ();
        sync::Mutex<T>, std::sync::Mutex<T>, ();
        sync::RwLock<T>, std::sync::RwLock<T>, ();
        sync::OnceLock<T>, std::sync::OnceLock<T>, ();
        sync::LazyLock<T>, std::sync::LazyLock<T>, ();
        // Ours may be called again after a panic, so it is an `Fn`, and shared.
        sync::LazyLock<u8, T>, std::sync::LazyLock<u8, T>, ("Sync");
    }
}

#[test]
fn a_join_error_goes_through_the_question_mark() {
    fn fails() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        gorun::go(|| std::panic::panic_any(Cell::new(7))).join()?;
        Ok(())
    }
    let error = fails().unwrap_err().downcast::<gorun::JoinError>().unwrap();
    let texts: Vec<_> = std::thread::scope(|s| {
        [s.spawn(|| error.to_string()), s.spawn(|| error.to_string())].map(|t| t.join().unwrap())
    })
    .into();
    assert_eq!(texts[0], texts[1]);
    assert!(error.into_panic().unwrap().is::<Cell<i32>>());
}
