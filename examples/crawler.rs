//! The web crawler of the Tour of Go (go.dev/tour/concurrency/10), over the tour's own fake fetcher: pages are fetched
//! in parallel, and none twice.
//!
//! Run with `cargo run --example crawler`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use gorun::sync::{Mutex, WaitGroup};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

trait Fetcher: Send + Sync {
    /// The page's text and the links on it.
    fn fetch(&self, url: &str) -> Result<(String, Vec<String>), String>;
}

/// What became of each page.
type Pages = BTreeMap<String, Result<String, String>>;

#[derive(Clone)]
struct Crawler {
    fetcher: Arc<dyn Fetcher>,
    pages: Arc<Mutex<Pages>>,
    busy: WaitGroup,
}

impl Crawler {
    /// Fetches `url` and what it links to, down to `depth`, each page in a goroutine of its own.
    fn crawl(&self, url: String, depth: usize) {
        if depth == 0 || self.pages.lock().contains_key(&url) {
            return;
        }
        self.pages.lock().insert(url.clone(), Err("on its way".to_owned()));
        let this = self.clone();
        self.busy.go(move || match this.fetcher.fetch(&url) {
            Err(error) => drop(this.pages.lock().insert(url, Err(error))),
            Ok((body, links)) => {
                this.pages.lock().insert(url, Ok(body));
                links.into_iter().for_each(|link| this.crawl(link, depth - 1));
            }
        });
    }
}

struct FakeFetcher(HashMap<&'static str, (&'static str, Vec<&'static str>)>);

impl Fetcher for FakeFetcher {
    fn fetch(&self, url: &str) -> Result<(String, Vec<String>), String> {
        gorun::time::sleep(std::time::Duration::from_millis(1));
        let (body, links) = self.0.get(url).ok_or_else(|| format!("not found: {url}"))?;
        Ok(((*body).to_owned(), links.iter().map(|link| (*link).to_owned()).collect()))
    }
}

fn main() {
    let fetcher = FakeFetcher(HashMap::from([
        (
            "https://golang.org/",
            ("The Go Programming Language", vec!["https://golang.org/pkg/", "https://golang.org/cmd/"]),
        ),
        (
            "https://golang.org/pkg/",
            (
                "Packages",
                vec![
                    "https://golang.org/",
                    "https://golang.org/cmd/",
                    "https://golang.org/pkg/fmt/",
                    "https://golang.org/pkg/os/",
                ],
            ),
        ),
        ("https://golang.org/pkg/fmt/", ("Package fmt", vec!["https://golang.org/", "https://golang.org/pkg/"])),
        ("https://golang.org/pkg/os/", ("Package os", vec!["https://golang.org/", "https://golang.org/pkg/"])),
    ]));
    let pages = gorun::run(|| {
        let crawler = Crawler { fetcher: Arc::new(fetcher), pages: Arc::default(), busy: WaitGroup::new() };
        crawler.crawl("https://golang.org/".to_owned(), 4);
        crawler.busy.wait();
        std::mem::take(&mut *crawler.pages.lock())
    });
    for (url, page) in &pages {
        println!("{url}: {page:?}");
    }
    assert_eq!(pages.len(), 5);
    assert_eq!(pages.values().filter(|page| page.is_ok()).count(), 4);
    assert_eq!(pages["https://golang.org/cmd/"], Err("not found: https://golang.org/cmd/".to_owned()));
}
