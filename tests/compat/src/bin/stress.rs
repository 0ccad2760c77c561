//! Thousands of goroutines that hold everything a thread may hold, while they are moved from thread to thread.
//!
//! `stress [--seconds N] [--goroutines N] [--workers N] [--only THING]`, by default 30, 3,000, 4 and all things. A
//! goroutine does a number of things in an order of its own, each of which holds something over suspensions (a
//! `ThreadRng`, an `Rc` out of a thread-local, a `RefCell` borrow, an epoch guard, an entered span, a std lock, a SQLite
//! statement, a zstd encoder, a destructor in the middle of a panic), and checks that it finds it as it was. When it
//! ends, another one takes its place until the time is over. Every suspension goes through the injector
//! (`GORUN_TEST_MIGRATE`), so that the next turn is likely to be on another thread; how often it was is counted, and if
//! there are not a million of them after a minute, it goes on until there are.
//!
//! To be built with fat LTO, which lets the compiler see through all of gorun: a thread-local's address that is kept over
//! a suspension would be found here.

use gorun::runtime::{Builder, ThreadLocals};
use gorun_compat::{OnPurpose, expect_panic, kernel_thread, quiet, status_kib};
use rand::rngs::ThreadRng;
use rand::{Rng, RngCore};
use regex::Regex;
use rusqlite::Connection;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

#[global_allocator]
static GLOBAL: gorun_compat::Allocator = gorun_compat::ALLOCATOR;

static STARTED: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
static DESTRUCTORS: AtomicU64 = AtomicU64::new(0);
static SUSPENSIONS: AtomicU64 = AtomicU64::new(0);
static MIGRATIONS: AtomicU64 = AtomicU64::new(0);
static HELD: [AtomicU64; THINGS.len()] = [const { AtomicU64::new(0) }; THINGS.len()];
/// How many wait where: send, receive, sleep, yield, thread; and in which thing.
static WAITING: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
static INSIDE: [AtomicU64; THINGS.len()] = [const { AtomicU64::new(0) }; THINGS.len()];
/// The one thing to do, if not all.
static ONLY: OnceLock<Option<usize>> = OnceLock::new();
static STOP: AtomicBool = AtomicBool::new(false);

thread_local! {
    static MARK: Cell<u64> = const { Cell::new(0) };
    static SHARED: Rc<Cell<u64>> = Rc::new(Cell::new(0));
    static MAP: RefCell<HashMap<u64, String>> = RefCell::new(HashMap::new());
    static LAST: LastWord = const { LastWord };
}

/// Its destructor runs when the goroutine ends, and suspends.
struct LastWord;

impl Drop for LastWord {
    fn drop(&mut self) {
        let (mark, thread) = (MARK.get(), std::thread::current().id());
        gorun::yield_now();
        assert_eq!((MARK.get(), std::thread::current().id()), (mark, thread));
        DESTRUCTORS.fetch_add(1, SeqCst);
    }
}

/// One goroutine's own view of itself.
struct Me {
    mark: u64,
    thread: std::thread::ThreadId,
    kernel: Cell<i32>,
    rng: RefCell<ThreadRng>,
    token: gorun::Sender<u64>,
    tokens: gorun::Receiver<u64>,
}

impl Me {
    /// Waits in one of several ways, and is still itself.
    fn suspend(&self) {
        let way = self.rng.borrow_mut().next_u32() % 16;
        // errno is the thread's, too.
        // SAFETY: no preconditions.
        let errno = || unsafe { &mut *libc::__errno_location() };
        *errno() = self.mark as i32;
        match way {
            0 => {
                waiting(0, || self.token.send(self.mark).expect("open"));
                waiting(1, || self.tokens.recv().expect("open"));
            }
            1 => waiting(2, || gorun::time::sleep(Duration::from_micros(50))),
            _ => waiting(3, gorun::yield_now),
        }
        if way > 1 {
            assert_eq!(*errno(), self.mark as i32, "errno");
        }
        let kernel = kernel_thread();
        if self.kernel.replace(kernel) != kernel {
            MIGRATIONS.fetch_add(1, SeqCst);
        }
        SUSPENSIONS.fetch_add(1, SeqCst);
        assert_eq!(MARK.get(), self.mark, "a plain thread-local");
        assert_eq!(std::thread::current().id(), self.thread, "the thread's id");
    }

    fn suspend_some(&self) {
        let times = self.rng.borrow_mut().random_range(1..4);
        (0..times).for_each(|_| self.suspend());
    }
}

fn waiting<T>(at: usize, f: impl FnOnce() -> T) -> T {
    WAITING[at].fetch_add(1, SeqCst);
    let result = f();
    WAITING[at].fetch_sub(1, SeqCst);
    result
}

type Thing = (&'static str, fn(&Me));

const THINGS: [Thing; 12] = [
    ("rc", hold_rc),
    ("borrow", hold_borrow),
    ("epoch", hold_epoch_guard),
    ("span", hold_span),
    ("rng", hold_rng),
    ("std mutex", hold_std_mutex),
    ("panic", suspend_in_a_panic),
    ("regex", use_regex),
    ("sqlite", use_sqlite),
    ("zstd", use_zstd),
    ("heap", use_heap),
    ("thread", use_thread),
];

fn hold_rc(me: &Me) {
    let (mine, before) = SHARED.with(|shared| (shared.clone(), Rc::strong_count(shared)));
    let value = mine.get();
    me.suspend_some();
    mine.set(value + 1);
    assert_eq!(SHARED.with(|shared| (shared.get(), Rc::strong_count(shared))), (value + 1, before));
}

fn hold_borrow(me: &Me) {
    MAP.with_borrow_mut(|map| {
        let n = map.len() as u64;
        map.insert(n, format!("{}-{n}", me.mark));
        me.suspend_some();
        assert_eq!(map[&n], format!("{}-{n}", me.mark));
    });
}

fn hold_epoch_guard(me: &Me) {
    use crossbeam_epoch::{Atomic, Owned, pin};
    static VALUE: LazyLock<Atomic<u64>> = LazyLock::new(|| Atomic::new(!0));
    let guard = pin();
    let seen = VALUE.load(SeqCst, &guard);
    // SAFETY: loaded under the guard, which is held; whoever replaces it defers its end.
    let before = unsafe { *seen.deref() };
    me.suspend_some();
    // SAFETY: as above.
    assert_eq!(unsafe { *seen.deref() }, before);
    if VALUE.compare_exchange(seen, Owned::new(me.mark), SeqCst, SeqCst, &guard).is_ok() {
        // SAFETY: unlinked by us.
        unsafe { guard.defer_destroy(seen) };
    }
}

fn hold_span(me: &Me) {
    let outer = tracing::info_span!("outer", me = me.mark).entered();
    me.suspend_some();
    let id = outer.id();
    assert_eq!(tracing::Span::current().id(), id);
    tracing::info_span!("inner").in_scope(|| {
        me.suspend();
        tracing::info!("seen");
        assert_ne!(tracing::Span::current().id(), id);
    });
    assert_eq!(tracing::Span::current().id(), id);
    drop(outer);
    assert_eq!(tracing::Span::current().id(), None);
}

fn hold_rng(me: &Me) {
    let mut rng = rand::rng();
    let mut bytes = [0; 512];
    for chunk in bytes.chunks_mut(128) {
        rng.fill_bytes(chunk);
        me.suspend();
    }
    assert!(bytes.iter().any(|b| *b != 0));
}

fn hold_std_mutex(me: &Me) {
    // Few wait for each, so that few threads block in the kernel.
    static LOCKS: [Mutex<u64>; 1024] = [const { Mutex::new(0) }; 1024];
    if let Ok(mut lock) = LOCKS[(me.mark % 1024) as usize].try_lock() {
        let before = *lock;
        me.suspend_some();
        assert_eq!(*lock, before);
        *lock += 1;
    }
}

fn suspend_in_a_panic(me: &Me) {
    struct Suspends<'a>(&'a Me);
    impl Drop for Suspends<'_> {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            self.0.suspend_some();
            let inner = expect_panic(|| {
                self.0.suspend();
                std::panic::panic_any(OnPurpose(7));
            });
            assert_eq!(inner, 7);
            self.0.suspend();
            assert!(std::thread::panicking());
        }
    }
    let thrown = expect_panic(|| {
        let _suspends = Suspends(me);
        me.suspend();
        assert!(!std::thread::panicking(), "only those panic who panic");
        std::panic::panic_any(OnPurpose(me.mark));
    });
    assert_eq!(thrown, me.mark);
    assert!(!std::thread::panicking());
}

fn use_regex(me: &Me) {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\w+)-(\d+)(?:\s|$)").expect("a pattern"));
    let text = (0..20).map(|n| format!("word-{n} ")).collect::<String>();
    for (n, found) in WORDS.captures_iter(&text).enumerate() {
        assert_eq!(found[2].parse(), Ok(n));
        if n % 7 == 0 {
            me.suspend();
        }
    }
}

fn use_sqlite(me: &Me) {
    let db = Connection::open_in_memory().expect("a database");
    db.execute_batch("create table t (n integer primary key, s text)").expect("a table");
    {
        let mut insert = db.prepare("insert into t values (?1, ?2)").expect("a statement");
        for n in 0..5 {
            insert.execute((n, format!("{}", me.mark))).expect("a row");
            me.suspend();
        }
    }
    let mut select = db.prepare("select n, s from t order by n").expect("a statement");
    let mut rows = select.query([]).expect("rows");
    let mut n = 0;
    while let Some(row) = rows.next().expect("a row") {
        assert_eq!(row.get(0), Ok(n));
        assert_eq!(row.get(1), Ok(me.mark.to_string()));
        n += 1;
        me.suspend();
    }
    assert_eq!(n, 5);
}

fn use_zstd(me: &Me) {
    let text: Vec<u8> = (0..4000_u32).flat_map(|n| (n % 97 + me.mark as u32 % 13).to_le_bytes()).collect();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    for part in text.chunks(4000) {
        encoder.write_all(part).expect("memory");
        me.suspend();
    }
    let small = encoder.finish().expect("memory");
    assert!(small.len() < text.len());
    let mut back = Vec::new();
    zstd::Decoder::new(&small[..]).expect("a decoder").read_to_end(&mut back).expect("what was written");
    assert_eq!(back, text);
}

fn use_heap(me: &Me) {
    let mut boxes: Vec<Box<[u64]>> = Vec::new();
    for n in 0..30 {
        let size = me.rng.borrow_mut().random_range(1..400);
        boxes.push(vec![me.mark + n; size].into());
        if n % 10 == 0 {
            me.suspend();
        }
    }
    for (n, part) in (0..).zip(&boxes) {
        assert!(part.iter().all(|word| *word == me.mark + n), "the heap");
    }
}

fn use_thread(me: &Me) {
    // Rarely: it blocks its worker.
    if me.rng.borrow_mut().random_range(0..200) == 0 {
        let mark = me.mark;
        let told = waiting(4, || std::thread::spawn(move || (MARK.get(), mark)).join().expect("no panic"));
        assert_eq!(told, (0, mark));
    }
    me.suspend();
}

fn live(token: gorun::Sender<u64>, tokens: gorun::Receiver<u64>) {
    let mark = STARTED.fetch_add(1, SeqCst) + 1;
    assert_eq!((MARK.replace(mark), SHARED.with(|s| s.get()), MAP.with_borrow(HashMap::len)), (0, 0, 0), "fresh");
    LAST.with(|_| ());
    let thread = std::thread::current().id();
    let rng = RefCell::new(rand::rng());
    let me = Me { mark, thread, kernel: Cell::new(kernel_thread()), rng, token, tokens };
    for _ in 0..30 {
        let which = me.rng.borrow_mut().random_range(0..THINGS.len());
        let which = ONLY.get().copied().flatten().unwrap_or(which);
        INSIDE[which].fetch_add(1, SeqCst);
        (THINGS[which].1)(&me);
        INSIDE[which].fetch_sub(1, SeqCst);
        HELD[which].fetch_add(1, SeqCst);
        if STOP.load(SeqCst) {
            break;
        }
    }
    ENDED.fetch_add(1, SeqCst);
}

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == name {
            let value = arguments.next().and_then(|value| value.parse().ok());
            return value.unwrap_or_else(|| usage(&format!("{name} takes a number")));
        }
    }
    default
}

fn usage(error: &str) -> ! {
    eprintln!("{error}\nusage: stress [--seconds N] [--goroutines N] [--workers N] [--only THING]");
    std::process::exit(2)
}

fn main() {
    let (seconds, goroutines) = (argument("--seconds", 30), argument("--goroutines", 3000));
    let workers = argument("--workers", 4) as usize;
    let only = std::env::args().skip_while(|a| a != "--only").nth(1);
    let find =
        |name: &str| THINGS.iter().position(|(thing, _)| *thing == name).unwrap_or_else(|| usage("no such thing"));
    ONLY.set(only.map(|name| find(&name))).expect("the first");
    // SAFETY: there is no other thread yet.
    unsafe { std::env::set_var("GORUN_TEST_MIGRATE", "1") };
    quiet(true);
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
    tracing::subscriber::set_global_default(subscriber).expect("the first");
    let runtime = match Builder::new().workers(workers).thread_locals(ThreadLocals::Isolated).build() {
        Ok(runtime) => runtime,
        Err(error) => usage(&error.to_string()),
    };
    // A million, in a minute or more: on a busy machine it goes on until it has them.
    let wanted = if workers > 1 && ONLY.get() == Some(&None) { seconds.min(60) * 1_000_000 / 60 } else { 0 };
    let began = Instant::now();
    let report = move |what: &str| {
        println!(
            "{what} {:4} s: {} goroutines ended, {} suspensions, {} migrations, {} MiB resident",
            began.elapsed().as_secs(),
            ENDED.load(SeqCst),
            SUSPENSIONS.load(SeqCst),
            MIGRATIONS.load(SeqCst),
            status_kib("VmRSS") >> 10,
        );
    };
    runtime.run(move || {
        let (token, tokens) = gorun::channel(64);
        let places: Vec<_> = (0..goroutines)
            .map(|_| {
                let (token, tokens) = (token.clone(), tokens.clone());
                gorun::go(move || {
                    while !STOP.load(SeqCst) {
                        let (token, tokens) = (token.clone(), tokens.clone());
                        gorun::go(move || live(token, tokens)).join().expect("no panic");
                    }
                })
            })
            .collect();
        let watch = gorun::go(move || {
            let mut last = (0, 0);
            let mut shown = 0;
            // By the clock: a sleeper waits its turn behind thousands.
            while began.elapsed().as_secs() < seconds || MIGRATIONS.load(SeqCst) < wanted {
                gorun::time::sleep(Duration::from_secs(1));
                if began.elapsed().as_secs() >= shown + 10 {
                    shown = began.elapsed().as_secs();
                    report("after");
                    let now = (SUSPENSIONS.load(SeqCst), MIGRATIONS.load(SeqCst));
                    let stands = now.0 == last.0 || wanted > 0 && now.1 == last.1;
                    if stands {
                        println!("waiting {WAITING:?} inside {INSIDE:?} {} goroutines", gorun::num_goroutines());
                    }
                    assert!(!stands, "it stands still: {now:?} after {last:?}");
                    last = now;
                }
            }
            STOP.store(true, SeqCst);
        });
        watch.join().expect("no panic");
        places.into_iter().for_each(|place| place.join().expect("no panic"));
    });
    report("ended after");
    for ((name, _), times) in THINGS.iter().zip(&HELD) {
        println!("{:>9}: {}", name, times.load(SeqCst));
    }
    let [started, ended, destructors] = [&STARTED, &ENDED, &DESTRUCTORS].map(|count| count.load(SeqCst));
    assert_eq!((ended, destructors), (started, started), "one destructor for each goroutine");
    println!("passed");
}
