//! Word frequencies of a directory tree: Go's classic bounded pipeline.
//!
//! ```text
//! walk (1 goroutine) --channel of paths--> readers (N goroutines) --at exit--> total
//! ```
//!
//! Each reader counts into goroutine-local maps, so counting needs no lock. A handler registered with
//! [`gorun::at_exit`] merges a reader's maps into the total on the reader's way out, whichever way that is;
//! joining the readers is therefore all that is needed before the total may be read.
//!
//! Run by people (`cargo run --release --example wordfreq -- DIR`) and included as a module by
//! `tests/wordfreq.rs`, which checks [`count`] against a single-threaded count.
//!
//! What is counted: maximal runs of alphanumeric characters, lower-cased. Links to files are read, links to
//! directories are not followed (so a loop cannot be entered), and whatever cannot be read, is not UTF-8 or
//! is not a regular file is named, counted and skipped. A file is held in memory while it is counted.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use gorun::sync::Mutex;
use gorun::{GoroutineId, goroutine_local};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const USAGE: &str = "\
usage: wordfreq [DIR]

Counts the words of every file under DIR (or of the one file DIR) and shows the most frequent ones.
Without DIR it counts the project's own sources and documents.";

/// How many words the bar list shows.
const TOP: usize = 20;
/// The width of the longest bar, in characters.
const BAR: u64 = 40;
/// How many paths may wait between the walk and the readers.
const QUEUE: usize = 64;

goroutine_local! {
    static WORDS: RefCell<HashMap<String, u64>> = RefCell::new(HashMap::new());
    static TALLY: Cell<Tally> = const { Cell::new(Tally { files: 0, words: 0, bytes: 0 }) };
    static SKIPPED: RefCell<Vec<Skipped>> = RefCell::new(Vec::new());
}

/// What one goroutine got through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Files counted.
    pub(crate) files: u64,
    /// Words in them.
    pub(crate) words: u64,
    /// Bytes in them.
    pub(crate) bytes: u64,
}

/// Why an entry was skipped.
#[derive(Debug)]
pub(crate) enum Reason {
    /// The entry or the directory could not be opened or read.
    Unreadable(io::Error),
    /// The file is not valid UTF-8.
    NotUtf8,
    /// A link to a directory, which is never followed.
    DirectoryLink,
    /// A pipe, socket or device.
    NotAFile,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "unreadable: {error}"),
            Self::NotUtf8 => f.write_str("not UTF-8"),
            Self::DirectoryLink => f.write_str("link to a directory, not followed"),
            Self::NotAFile => f.write_str("not a regular file"),
        }
    }
}

/// An entry that was skipped, and why.
#[derive(Debug)]
pub(crate) struct Skipped {
    /// The entry.
    pub(crate) path: PathBuf,
    /// Why it was skipped.
    pub(crate) reason: Reason,
}

/// Everything a run found out.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How often each word occurs.
    pub(crate) words: HashMap<String, u64>,
    /// One row a reader.
    pub(crate) goroutines: Vec<(GoroutineId, Tally)>,
    /// What was left out.
    pub(crate) skipped: Vec<Skipped>,
}

impl Report {
    /// All readers' tallies added up.
    pub(crate) fn total(&self) -> Tally {
        let mut total = Tally::default();
        for (_, tally) in &self.goroutines {
            total.files += tally.files;
            total.words += tally.words;
            total.bytes += tally.bytes;
        }
        total
    }
}

/// Counts the words of every file under `roots` with `readers` goroutines, and shows on `bar` how far it got.
///
/// Must be called from a goroutine or a plain thread; it returns when every reader has left its exit path.
///
/// # Panics
///
/// Panics if a goroutine of the pipeline did.
pub(crate) fn count(roots: Vec<PathBuf>, readers: usize, bar: &ProgressBar) -> Report {
    let report = Arc::new(Mutex::new(Report::default()));
    let (paths, inbox) = gorun::channel::<PathBuf>(QUEUE);

    let mut goroutines = Vec::new();
    let (into, shown) = (Arc::clone(&report), bar.clone());
    goroutines.push(gorun::go(move || {
        gorun::at_exit(move || merge_skipped(&into));
        for root in roots {
            if walk(root, &mut |path| {
                shown.inc_length(1);
                paths.send(path).is_ok()
            })
            .is_break()
            {
                break;
            }
        }
    }));
    for _ in 0..readers.max(1) {
        let (into, inbox, shown) = (Arc::clone(&report), inbox.clone(), bar.clone());
        goroutines.push(gorun::go(move || {
            gorun::at_exit(move || merge(&into));
            for path in inbox {
                count_file(path);
                shown.inc(1);
            }
        }));
    }
    drop(inbox);

    for goroutine in goroutines {
        if let Err(error) = goroutine.join() {
            panic!("a goroutine of the pipeline failed: {error}");
        }
    }
    // Joined means: the exit path is over, handlers included. Nobody else holds the report any more.
    let mut report = std::mem::take(&mut *report.lock());
    report.goroutines.sort_by_key(|(id, _)| *id);
    report.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    report
}

/// Calls `visit` with every readable-looking file under `root`, until it says `false`.
fn walk(root: PathBuf, visit: &mut dyn FnMut(PathBuf) -> bool) -> std::ops::ControlFlow<()> {
    use std::ops::ControlFlow::{Break, Continue};
    // A list of what is still to be seen instead of recursion: a goroutine's stack is small, trees may be deep.
    // Only the root itself may be a link to a directory: the user named it.
    let mut pending = vec![(root, true)];
    while let Some((path, follow)) = pending.pop() {
        let entry = gorun::blocking(|| look(&path, follow));
        match entry {
            Ok(Entry::File) => {
                if !visit(path) {
                    return Break(());
                }
            }
            Ok(Entry::Directory(entries)) => {
                for entry in entries {
                    match entry {
                        Ok(inner) => pending.push((inner, false)),
                        Err(error) => skip(path.clone(), Reason::Unreadable(error)),
                    }
                }
            }
            Err(reason) => skip(path, reason),
        }
    }
    Continue(())
}

/// What [`look`] finds at a path.
enum Entry {
    File,
    Directory(Vec<io::Result<PathBuf>>),
}

/// Looks at `path`; `follow` says whether it may be a link to a directory. Runs on a blocking thread.
fn look(path: &Path, follow: bool) -> Result<Entry, Reason> {
    let link = fs::symlink_metadata(path).map_err(Reason::Unreadable)?.is_symlink();
    let kind = fs::metadata(path).map_err(Reason::Unreadable)?;
    if kind.is_file() {
        Ok(Entry::File)
    } else if !kind.is_dir() {
        Err(Reason::NotAFile)
    } else if link && !follow {
        Err(Reason::DirectoryLink)
    } else {
        let entries = fs::read_dir(path).map_err(Reason::Unreadable)?;
        Ok(Entry::Directory(entries.map(|entry| Ok(entry?.path())).collect()))
    }
}

/// Counts one file into this goroutine's maps.
fn count_file(path: PathBuf) {
    let bytes = match gorun::blocking(|| fs::read(&path)) {
        Ok(bytes) => bytes,
        Err(error) => return skip(path, Reason::Unreadable(error)),
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return skip(path, Reason::NotUtf8);
    };
    let mut tally = TALLY.get();
    tally.files += 1;
    tally.bytes += bytes.len() as u64;
    WORDS.with_borrow_mut(|words| {
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            if word.is_empty() {
                continue;
            }
            tally.words += 1;
            *words.entry(word.to_lowercase()).or_default() += 1;
        }
    });
    TALLY.set(tally);
}

/// Notes that `path` is left out.
fn skip(path: PathBuf, reason: Reason) {
    SKIPPED.with_borrow_mut(|skipped| skipped.push(Skipped { path, reason }));
}

/// A reader's exit handler: this goroutine's maps go into the total.
fn merge(report: &Mutex<Report>) {
    let words = WORDS.take();
    let mut total = report.lock();
    for (word, times) in words {
        *total.words.entry(word).or_default() += times;
    }
    total.goroutines.push((gorun::id(), TALLY.get()));
    drop(total);
    merge_skipped(report);
}

/// The walk's exit handler, and part of the readers'.
fn merge_skipped(report: &Mutex<Report>) {
    let mut skipped = SKIPPED.take();
    report.lock().skipped.append(&mut skipped);
}

/// The project's own sources and documents.
///
/// # Errors
///
/// An error if the project's directory can no longer be read.
pub(crate) fn own_sources() -> io::Result<Vec<PathBuf>> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut roots = Vec::new();
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        let wanted = match path.file_name().and_then(|name| name.to_str()) {
            Some("src" | "scheduler" | "tests" | "benches" | "examples" | "docs") => path.is_dir(),
            Some(name) => name.ends_with(".md") && path.is_file(),
            None => false,
        };
        if wanted {
            roots.push(path);
        }
    }
    roots.sort();
    Ok(roots)
}

/// The bar list and the per-goroutine table.
///
/// # Errors
///
/// Whatever `out` answers with.
pub(crate) fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut words: Vec<(&str, u64)> = report.words.iter().map(|(w, n)| (w.as_str(), *n)).collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    words.truncate(TOP);
    let most = words.first().map_or(1, |(_, times)| *times);
    let width = words.iter().map(|(word, _)| word.chars().count()).max();
    let width = width.unwrap_or(0).min(24);
    for (word, times) in &words {
        let bar = "█".repeat((times * BAR).div_ceil(most) as usize);
        writeln!(out, "{word:>width$} {times:>8} {bar}")?;
    }

    let total = report.total();
    writeln!(out, "\n{:>10} {:>7} {:>10} {:>12}", "goroutine", "files", "words", "bytes")?;
    for (id, tally) in &report.goroutines {
        let id = id.to_string();
        let Tally { files, words, bytes } = tally;
        writeln!(out, "{id:>10} {files:>7} {words:>10} {bytes:>12}")?;
    }
    let Tally { files, words, bytes } = total;
    writeln!(out, "{:>10} {files:>7} {words:>10} {bytes:>12}", "total")?;
    let (different, skipped) = (report.words.len(), report.skipped.len());
    writeln!(out, "\n{different} different words, {skipped} skipped")?;
    out.flush()
}

/// The progress bar, on stderr; indicatif hides it when stderr is no terminal.
fn progress() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{elapsed:>4} {wide_bar} {pos}/{len} files");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// Turns the arguments into the paths to be counted; the error is what to tell the user.
fn roots_from_arguments() -> Result<Vec<PathBuf>, String> {
    let mut arguments = std::env::args_os().skip(1);
    let Some(root) = arguments.next() else {
        return own_sources().map_err(|error| format!("the project's own sources are gone: {error}"));
    };
    if arguments.next().is_some() {
        return Err("one directory at a time".to_owned());
    }
    if root.as_encoded_bytes().starts_with(b"-") {
        return Err(format!("unknown option {root:?}"));
    }
    match fs::metadata(&root) {
        Ok(_) => Ok(vec![PathBuf::from(root)]),
        Err(error) => Err(format!("cannot open {root:?}: {error}")),
    }
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|a| a == "--help" || a == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let roots = match roots_from_arguments() {
        Ok(roots) => roots,
        Err(message) => {
            eprintln!("wordfreq: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let readers = std::thread::available_parallelism().map_or(4, |n| n.get() * 2);
    let bar = progress();
    let shown = bar.clone();
    let report = gorun::run(move || count(roots, readers, &shown));
    bar.finish_and_clear();

    for skipped in &report.skipped {
        eprintln!("skipped {:?}: {}", skipped.path, skipped.reason);
    }
    match print(&report, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough (`wordfreq | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wordfreq: cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}
