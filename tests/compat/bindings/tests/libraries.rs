//! Bindings to C and C++ libraries that keep something by thread: LMDB's read transactions, libgit2's and OpenSSL's last
//! errors, and the exceptions that C++ has caught. Each goroutine is a thread to them.

use gorun::yield_now;
use gorun_bindings::{Folder, exceptions};
use gorun_compat::{ISOLATED, SOME, at_once};
use heed::types::{Str, U32};
use heed::{Database, EnvOpenOptions, byteorder::NativeEndian};
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};

/// LMDB has a slot in its table of readers for each thread, found by a pthread key; a second read transaction of the same
/// thread is an error. The slot is given back by the key's destructor.
#[test]
fn an_lmdb_read_transaction_is_held_over_waits() {
    let folder = Folder::new("lmdb");
    // Fewer readers than goroutines in all: those that have ended have given theirs back.
    const READERS: u32 = 150;
    // Room for the pages that old snapshots keep.
    // SAFETY: nobody else has the folder.
    let env = unsafe { EnvOpenOptions::new().map_size(64 << 20).max_readers(READERS).open(folder.path()) }
        .expect("an environment");
    let mut write = env.write_txn().expect("nobody writes");
    let table: Database<Str, U32<NativeEndian>> = env.create_database(&mut write, None).expect("a table");
    table.put(&mut write, "n", &0).expect("room");
    write.commit().expect("room");
    for round in 0..5 {
        let env = env.clone();
        at_once(ISOLATED, 100, move |i| {
            let read = env.read_txn().expect("a reader's slot of its own");
            let before = table.get(&read, "n").expect("readable").expect("it is there");
            for _ in 0..10 {
                yield_now();
                // A snapshot.
                assert_eq!(table.get(&read, "n").expect("readable"), Some(before), "{round} {i}");
            }
            drop(read);
            // A writer's lock is a pthread mutex that knows its owner; no wait while it is held, as the others block their threads.
            let mut write = env.write_txn().expect("the writer's turn");
            let now = table.get(&write, "n").expect("readable").expect("it is there");
            table.put(&mut write, "n", &(now + 1)).expect("room");
            write.commit().expect("room");
        });
    }
    let read = env.read_txn().expect("a reader's slot");
    assert_eq!(table.get(&read, "n").expect("readable"), Some(500));
}

/// libgit2 keeps the last error by thread.
#[test]
fn a_git_error_stays_with_its_goroutine() {
    at_once(ISOLATED, SOME, |i| {
        for n in 0..5 {
            let path = format!("/does/not/exist/{i}/{n}");
            let error = git2::Repository::open(&path).err().expect("there is none");
            assert!(error.message().contains(&path), "{error}");
            yield_now();
        }
    });
}

#[test]
fn repositories_are_made_side_by_side() {
    let folder = Folder::new("git");
    let path = folder.path().to_owned();
    at_once(ISOLATED, 30, move |i| {
        let repository = git2::Repository::init(path.join(i.to_string())).expect("a repository");
        let who = git2::Signature::now("goroutine", "goroutine@example.org").expect("a name");
        let mut last = None;
        for n in 0..5 {
            yield_now();
            let tree = repository.treebuilder(None).and_then(|tree| tree.write()).expect("an empty tree");
            let tree = repository.find_tree(tree).expect("just written");
            let parent = last.map(|id| repository.find_commit(id).expect("just written"));
            let parents: Vec<_> = parent.iter().collect();
            let text = format!("{i} {n}");
            last = Some(repository.commit(Some("HEAD"), &who, &who, &text, &tree, &parents).expect("a commit"));
        }
        let mut walk = repository.revwalk().expect("there is a head");
        walk.push_head().expect("there is a head");
        assert_eq!(walk.count(), 5);
    });
}

/// OpenSSL has a queue of errors for each thread.
#[test]
fn openssl_errors_stay_with_their_goroutine() {
    at_once(ISOLATED, SOME, |i| {
        for _ in 0..5 {
            // Two kinds of errors, by turns.
            let failed = if i % 2 == 0 {
                openssl::x509::X509::from_pem(b"no certificate").map(drop)
            } else {
                openssl::bn::BigNum::from_dec_str("no number").map(drop)
            };
            let mine = failed.expect_err("it is none");
            // Put back, to be found after the wait.
            mine.errors().iter().for_each(openssl::error::Error::put);
            yield_now();
            let found = ErrorStack::get();
            assert_eq!(found.errors().len(), mine.errors().len());
            for (found, mine) in found.errors().iter().zip(mine.errors()) {
                assert_eq!(found.code(), mine.code());
            }
            assert!(ErrorStack::get().errors().is_empty());
        }
        let digest = hash(MessageDigest::sha256(), b"gorun").expect("SHA-256");
        yield_now();
        assert_eq!(*digest, *hash(MessageDigest::sha256(), b"gorun").expect("SHA-256"));
    });
}

/// C++ keeps by thread which exceptions have been caught and are still being handled.
#[test]
fn a_cxx_exception_is_handled_over_waits() {
    at_once(ISOLATED, SOME, |i| {
        for n in 0..10 {
            let number = (i * 100 + n) as i32;
            let thrown = exceptions::throw_and_handle(number, |_| {
                yield_now();
            });
            assert_eq!(thrown.expect_err("thrown again").what(), format!("exception {number}"));
        }
    });
}

#[test]
fn a_cxx_exception_is_thrown_while_another_is_handled() {
    at_once(ISOLATED, SOME, |i| {
        let outer = i as i32;
        let thrown = exceptions::throw_and_handle(outer, |_| {
            yield_now();
            let inner = exceptions::throw_and_handle(-1, |_| {
                yield_now();
            });
            assert_eq!(inner.expect_err("thrown again").what(), "exception -1");
            yield_now();
        });
        assert_eq!(thrown.expect_err("thrown again").what(), format!("exception {outer}"));
    });
}
