//! Libraries that keep something by thread, used by thousands of goroutines at once.

use super::{BOTH, ISOLATED, MANY, SOME, at_once, suspend};
use std::io::{Read, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[test]
fn regex() {
    // Its pool of caches has an owner, by thread.
    static WORDS: LazyLock<regex::Regex> = LazyLock::new(|| regex::Regex::new(r"(\w+)=(\d+)\b").expect("a pattern"));
    at_once(BOTH, MANY, |i| {
        let text: String = (0..20).map(|n| format!("key{i}={n}; ")).collect();
        for (n, found) in WORDS.captures_iter(&text).enumerate() {
            assert_eq!((&found[1], found[2].parse()), (&*format!("key{i}"), Ok(n)));
            suspend();
        }
    });
}

#[test]
fn serde_json() {
    at_once(BOTH, MANY, |i| {
        let value = serde_json::json!({ "i": i, "list": (0..20).collect::<Vec<_>>(), "text": "é\n" });
        for _ in 0..5 {
            let text = value.to_string();
            suspend();
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
        }
    });
}

#[test]
fn parking_lot() {
    static LOCKS: [parking_lot::Mutex<usize>; 64] = [const { parking_lot::Mutex::new(0) }; 64];
    static READ: parking_lot::RwLock<usize> = parking_lot::RwLock::new(7);
    static OWNED: parking_lot::ReentrantMutex<()> = parking_lot::ReentrantMutex::new(());
    // The lock is not held over a wait: then it is one of those that block the thread.
    at_once(BOTH, MANY, |i| {
        for n in 0..20 {
            *LOCKS[(i + n) % 64].lock() += 1;
            suspend();
            assert_eq!(*READ.read(), 7);
            let _outer = OWNED.lock();
            let _inner = OWNED.lock();
        }
    });
    assert_eq!(LOCKS.iter().map(|lock| *lock.lock()).sum::<usize>(), 2 * 20 * MANY);
    // Held over a wait it is a goroutine's own, when the goroutine is a thread.
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    at_once(ISOLATED, 12, |_| {
        let _outer = OWNED.lock();
        assert_eq!(INSIDE.fetch_add(1, SeqCst), 0, "owned by two");
        suspend();
        let _inner = OWNED.lock();
        suspend();
        INSIDE.fetch_sub(1, SeqCst);
    });
}

#[test]
fn rayon() {
    use rayon::prelude::*;
    at_once(BOTH, 100, |i| {
        let sum: usize = (0..1000).into_par_iter().map(|n| n + i).sum();
        assert_eq!(sum, 499_500 + 1000 * i);
        suspend();
        let mut parts = [0; 8];
        rayon::scope(|scope| {
            for (n, part) in parts.iter_mut().enumerate() {
                scope.spawn(move |_| *part = n + i);
            }
        });
        assert_eq!(parts.iter().sum::<usize>(), 28 + 8 * i);
        // We are nobody's worker thread.
        assert_eq!(rayon::current_thread_index(), None);
    });
}

#[test]
fn sqlite() {
    at_once(BOTH, SOME, |i| {
        let db = rusqlite::Connection::open_in_memory().expect("a database");
        db.execute_batch("create table t (n integer primary key, s text)").expect("a table");
        for n in 0..10 {
            let sql = "insert into t values (?1, ?2)";
            db.execute(sql, (n, format!("{i}-{n}"))).expect("a row");
            suspend();
        }
        let mut select = db.prepare("select n, s from t order by n").expect("a statement");
        let mut rows = select.query([]).expect("rows");
        let mut seen = 0;
        while let Some(row) = rows.next().expect("a row") {
            assert_eq!((row.get(0), row.get(1)), (Ok(seen), Ok(format!("{i}-{seen}"))));
            seen += 1;
            suspend();
        }
        assert_eq!(seen, 10);
        assert!(db.execute("insert into t values (1, 'again')", []).is_err());
    });
}

#[test]
fn sqlite_that_sleeps_until_another_goroutine_commits() {
    // It waits in C, on the only worker, for what a goroutine that waits in gorun has locked.
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("busy-{}.db", std::process::id()));
    for &mode in BOTH {
        let _ = std::fs::remove_file(&path);
        let open = {
            let path = path.clone();
            move || {
                let db = rusqlite::Connection::open(&path).expect("a database");
                db.busy_timeout(std::time::Duration::from_secs(30)).expect("a number");
                db
            }
        };
        open().execute_batch("create table t (n integer)").expect("a table");
        let runtime = gorun::runtime::Builder::new().workers(1).thread_locals(mode).build().expect("a runtime");
        let told = runtime.run(move || {
            let (commit, waits) = gorun::channel::<()>(0);
            let (tell, told) = gorun::channel(2);
            let (other, tell_too) = (open.clone(), tell.clone());
            // A pinned one that has begun here would stay behind the sleeper for good: that is what isolated ones are for.
            let holder = move || {
                let db = open();
                db.execute_batch("begin immediate; insert into t values (1)").expect("the lock");
                tell.send("locked").expect("open");
                assert!(waits.recv().is_err());
                db.execute_batch("commit").expect("the lock was ours");
                tell.send("committed").expect("open");
            };
            let holder = gorun::Builder::new().thread_locals(ISOLATED[0]).go(holder).expect("a goroutine");
            assert_eq!(told.recv(), Ok("locked"));
            let sleeper = gorun::go(move || {
                // Whoever begins now finds the worker asleep.
                gorun::go(move || drop(commit));
                other().execute("insert into t values (2)", []).expect("the lock, in the end");
                tell_too.send("inserted").expect("open");
            });
            sleeper.join().expect("no panic");
            holder.join().expect("no panic");
            [told.recv(), told.recv()]
        });
        assert_eq!(told, [Ok("committed"), Ok("inserted")]);
    }
    let _ = std::fs::remove_file(&path);
}

#[test]
fn zstd() {
    at_once(BOTH, SOME, |i| {
        let text: Vec<u8> = (0..5000_usize).flat_map(|n| (n % (50 + i)).to_le_bytes()).collect();
        let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        for part in text.chunks(8000) {
            encoder.write_all(part).expect("memory");
            suspend();
        }
        let small = encoder.finish().expect("memory");
        let mut back = Vec::new();
        ::zstd::Decoder::new(&small[..]).expect("a decoder").read_to_end(&mut back).expect("what was written");
        assert!(back == text && small.len() < text.len());
    });
}

#[test]
fn the_handle_of_a_tokio_runtime() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let handle = tokio.handle().clone();
    at_once(ISOLATED, MANY, move |i| {
        assert!(tokio::runtime::Handle::try_current().is_err(), "entered by somebody else");
        let entered = handle.enter();
        suspend();
        let (tell, told) = tokio::sync::oneshot::channel();
        // Finds the runtime by thread-local.
        let task = tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            tell.send(i).expect("it waits");
        });
        suspend();
        // gorun waits for it, not the thread.
        let (done, wait) = gorun::channel(1);
        let watch = tokio::spawn(async move {
            let told = told.await.expect("told");
            task.await.expect("no panic");
            done.try_send(told).expect("room");
        });
        assert_eq!(wait.recv(), Ok(i));
        drop(entered);
        assert!(tokio::runtime::Handle::try_current().is_err());
        drop(watch);
    });
    // And waiting on the thread works as on a thread: it blocks the worker.
    let handle = tokio.handle().clone();
    at_once(ISOLATED, 12, move |i| {
        let value = handle.block_on(async move {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            i
        });
        assert_eq!(value, i);
        suspend();
    });
}

#[test]
fn stacker_sees_the_goroutines_stack() {
    // It asks pthread_getattr_np; what it does when that fails is grow, each time.
    fn deep(n: usize) -> usize {
        let page = std::hint::black_box([n as u8; 1000]);
        if n == 0 {
            0
        } else {
            1 + ::stacker::maybe_grow(64 << 10, 1 << 20, || deep(n - 1)) + usize::from(page[0]) - n % 256
        }
    }
    at_once(ISOLATED, SOME, |_| {
        assert_eq!(deep(2000), 2000);
        suspend();
        assert_eq!(deep(10), 10);
    });
}
