//! Bounded parallel file digest: walks a tree and hashes every file, with at most eight at a time.
//!
//! From "Go Concurrency Patterns: Pipelines and cancellation" (go.dev/blog/pipelines), its `bounded.go`, with an
//! errgroup in place of the hand-made one: the first error cancels the rest and is what comes back.
//! Run with `cargo run --example file_digest -- src`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use gorun::context;
use gorun::select;
use gorun::sync::ErrGroup;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const AT_A_TIME: usize = 8;

fn walk(dir: &Path, found: &mut impl FnMut(PathBuf) -> bool) -> io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let goes_on = if path.is_dir() { walk(&path, found)? } else { found(path) };
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The digest of every file below `root`.
fn digest_all(root: &Path) -> io::Result<BTreeMap<PathBuf, String>> {
    let (group, ctx) = ErrGroup::with_context(&context::background());
    let (paths, inbox) = gorun::channel::<PathBuf>(0);
    let (outbox, digests) = gorun::unbounded();
    let (root, walks) = (root.to_owned(), ctx.clone());
    group.go(move || {
        let mut send = |path| {
            select! {
                send(paths, path) -> sent => sent.is_ok(),
                recv(walks.done()) -> _ => false,
            }
        };
        walk(&root, &mut send).map(|_| ())
    });
    for _ in 0..AT_A_TIME {
        let (inbox, outbox) = (inbox.clone(), outbox.clone());
        group.go(move || {
            for path in inbox {
                // Blocks its thread; others take over if it does so for long.
                let digest = Sha256::digest(std::fs::read(&path)?);
                let text = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let _ = outbox.send((path, text));
            }
            Ok(())
        });
    }
    drop((inbox, outbox));
    group.wait()?;
    Ok(digests.into_iter().collect())
}

fn main() -> ExitCode {
    let root =
        std::env::args_os().nth(1).map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src"), PathBuf::from);
    match gorun::run(|| digest_all(&root)) {
        Ok(digests) => {
            for (path, digest) in &digests {
                println!("{digest}  {}", path.display());
            }
            for (path, digest) in &digests {
                let alone = Sha256::digest(std::fs::read(path).expect("it was readable")).to_vec();
                assert!(
                    alone
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .eq(digest.as_bytes().chunks(2).map(|two| { String::from_utf8_lossy(two).into_owned() }))
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("file_digest: {}: {error}", root.display());
            ExitCode::from(2)
        }
    }
}
