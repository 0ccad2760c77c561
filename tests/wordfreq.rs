//! The totals of `examples/wordfreq.rs` against a single-threaded count of the same tree.
//!
//! The tree is made on the spot and has what real trees have: nested directories, an empty file, a file that
//! is not UTF-8, an entry that cannot be read (a dangling link, because tests may run as root), a link that
//! loops, and a link to a file.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

#[path = "../examples/wordfreq.rs"]
#[allow(dead_code, reason = "main and its helpers are for the example alone")]
mod wordfreq;

use wordfreq::{Reason, Report};

/// A directory that is removed with everything in it.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gorun-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a name inside the tree")).expect("writable");
        fs::write(path, content).expect("writable");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Nothing useful can be done here if this fails; the next run uses another name.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the example does, done plainly: one thread, character by character.
fn single_threaded(dir: &Path, into: &mut HashMap<String, u64>) -> (u64, u64, u64) {
    let (mut files, mut words, mut bytes) = (0, 0, 0);
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            if !path.is_symlink() {
                let inner = single_threaded(&path, into);
                files += inner.0;
                words += inner.1;
                bytes += inner.2;
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            files += 1;
            bytes += text.len() as u64;
            let mut word = String::new();
            for c in text.chars().chain(Some(' ')) {
                if c.is_alphanumeric() {
                    word.push(c);
                } else if !word.is_empty() {
                    words += 1;
                    *into.entry(word.to_lowercase()).or_default() += 1;
                    word.clear();
                }
            }
        }
    }
    (files, words, bytes)
}

fn check_against_single_thread(report: &Report, root: &Path) {
    let mut words = HashMap::new();
    let (files, all, bytes) = single_threaded(root, &mut words);
    assert_eq!(report.words, words);
    let total = report.total();
    assert_eq!((total.files, total.words, total.bytes), (files, all, bytes));
    assert_eq!(total.words, report.words.values().sum::<u64>());
}

#[test]
fn totals_match_on_a_tree_with_everything_that_goes_wrong() {
    let tree = Tree::new("everything");
    tree.write("empty.txt", "");
    tree.write("words.txt", "one two two three,three;THREE\n");
    tree.write("nested/deeper/umlauts.txt", "Größe grösse GRÖSSE x2\r\n42 42");
    tree.write("nested/latin1.txt", b"caf\xe9 never counted");
    for n in 0..200 {
        let text = format!("file {n} ").repeat(n);
        tree.write(&format!("many/{}/{n}.txt", n % 7), text);
    }
    symlink(tree.0.join("gone"), tree.0.join("dangling")).expect("links work");
    symlink(&tree.0, tree.0.join("nested/loop")).expect("links work");
    symlink(tree.0.join("words.txt"), tree.0.join("alias")).expect("links work");

    for readers in [1, 8] {
        let (root, bar) = (tree.0.clone(), ProgressBar::hidden());
        let report = gorun::run(move || wordfreq::count(vec![root], readers, &bar));

        check_against_single_thread(&report, &tree.0);
        // words.txt is seen twice, once through its alias.
        assert_eq!(report.words["three"], 6);
        assert_eq!(report.words["größe"], 1);
        assert_eq!(report.words["grösse"], 2);
        assert_eq!(report.words["42"], 2 + 42, "file 42 names itself 42 times");
        assert!(!report.words.contains_key("never"));
        assert_eq!(report.goroutines.len(), readers);

        let skipped: Vec<_> =
            report.skipped.iter().map(|s| (s.path.strip_prefix(&tree.0).expect("inside"), &s.reason)).collect();
        assert!(
            matches!(
                skipped[..],
                [(a, Reason::Unreadable(_)), (b, Reason::NotUtf8), (c, Reason::DirectoryLink)]
                    if a == Path::new("dangling")
                        && b == Path::new("nested/latin1.txt")
                        && c == Path::new("nested/loop")
            ),
            "{skipped:?}"
        );
    }
}

#[test]
fn an_empty_tree_a_lone_file_and_a_missing_root() {
    let tree = Tree::new("small");
    tree.write("dir/lone.txt", "just these three");
    fs::create_dir(tree.0.join("empty")).expect("writable");
    let count = |name: &str| {
        let (root, bar) = (tree.0.join(name), ProgressBar::hidden());
        gorun::run(move || wordfreq::count(vec![root], 4, &bar))
    };

    let report = count("empty");
    assert!(report.words.is_empty() && report.skipped.is_empty());

    let report = count("dir/lone.txt");
    assert_eq!(report.total().words, 3);

    let report = count("missing");
    assert!(matches!(report.skipped[0].reason, Reason::Unreadable(_)));
    assert_eq!(report.total().files, 0);
}

#[test]
fn counting_works_from_a_plain_thread_too() {
    let tree = Tree::new("plain");
    tree.write("a.txt", "left right left");
    let report = wordfreq::count(vec![tree.0.clone()], 2, &ProgressBar::hidden());
    check_against_single_thread(&report, &tree.0);
    assert_eq!(report.words["left"], 2);
}

#[test]
fn the_project_own_sources_are_found_and_printed() {
    let roots = wordfreq::own_sources().expect("the sources are there");
    let bar = ProgressBar::hidden();
    let report = gorun::run(move || wordfreq::count(roots, 4, &bar));
    assert!(report.words["goroutine"] > 0);
    assert!(report.total().files > 10);
    let mut out = Vec::new();
    wordfreq::print(&report, &mut out).expect("memory takes everything");
    let text = String::from_utf8(out).expect("the report is UTF-8");
    assert!(text.contains("█"));
    assert!(text.lines().any(|line| line.trim().starts_with("total")));
}
