//! The bars: what gorun is to reach, as limits that follow from the peers' values of the same run.

use crate::catalog;
use crate::results::Table;

/// A limit for gorun's value; less is better in every row.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// That many times ahead of the best peer.
    Best(f64),
    /// That many times ahead of one peer; below 1, that much behind at most.
    Peer(&'static str, f64),
    /// A value of its own, in the row's unit.
    At(f64),
    /// A value for the isolated mode, and one for the pinned.
    AtByMode(f64, f64),
    /// Its own value with one processor, divided by this.
    Scaled(f64),
    /// One rule with one processor, another with more.
    ByProcs(&'static Rule, &'static Rule),
    /// All of them.
    All(&'static [Rule]),
    /// Nothing is asked.
    None,
}

/// A row of the table: a value of a workload, and what is asked of it.
#[derive(Debug)]
pub struct Bar {
    pub title: &'static str,
    pub workload: &'static str,
    /// gorun's variant; peers count with the best of theirs that `like` lets in.
    pub variant: &'static str,
    pub metric: &'static str,
    pub must: Rule,
    pub aim: Rule,
    /// What is asked, in words.
    pub words: (&'static str, &'static str),
    /// Which of a peer's variants are the same thing.
    pub like: fn(peer: &str, variant: &str) -> bool,
    /// Processors for which anything is asked.
    pub procs: &'static [usize],
}

/// "Level with" leaves room for noise.
const LEVEL: f64 = 1.0 / 1.05;

fn any(_: &str, _: &str) -> bool {
    true
}

fn bounded(peer: &str, variant: &str) -> bool {
    !(peer == "may" && variant.contains("unbounded"))
}

fn timers(_: &str, variant: &str) -> bool {
    variant.is_empty()
}

fn inlined(_: &str, variant: &str) -> bool {
    variant.contains("inlined") && !variant.contains("lazy")
}

fn parallel(_: &str, variant: &str) -> bool {
    variant != "sequential"
}

fn by_id(peer: &str, variant: &str) -> bool {
    peer == "go" && variant.contains("goid")
}

const fn bar(
    title: &'static str,
    workload: &'static str,
    must: Rule,
    aim: Rule,
    words: (&'static str, &'static str),
) -> Bar {
    Bar { title, workload, variant: "", metric: "ns_per_op", must, aim, words, like: any, procs: &[] }
}

pub const BARS: &[Bar] = &[
    bar("spawn + wait, a million, ns", "spawn_join", Rule::Best(2.5), Rule::At(60.0), ("2.5x the best", "60 ns")),
    bar("spawn one, wait for it, ns", "spawn_join_one", Rule::Best(2.0), Rule::At(60.0), ("2x the best", "60 ns")),
    bar(
        "yield, 2 take turns, ns",
        "yield_2",
        Rule::ByProcs(&Rule::All(&[Rule::Peer("go", 2.0), Rule::Best(1.0)]), &Rule::Peer("go", 2.0)),
        Rule::At(20.0),
        ("2x Go; ahead of all at 1", "20 ns"),
    ),
    bar(
        "yield, 1000 take turns, ns",
        "yield_1000",
        Rule::ByProcs(&Rule::All(&[Rule::Peer("go", 2.0), Rule::Best(1.0)]), &Rule::Peer("go", 2.0)),
        Rule::At(20.0),
        ("2x Go; ahead of all at 1", "20 ns"),
    ),
    bar("ping-pong, unbuffered, round trip, ns", "pingpong", Rule::Best(2.0), Rule::At(60.0), ("2x the best", "60 ns")),
    bar("ring of 503, per hop, ns", "ring", Rule::Best(2.0), Rule::At(30.0), ("2x the best", "30 ns")),
    Bar {
        like: bounded,
        ..bar(
            "channel of 128, 1 to 1, per item, ns",
            "chan_spsc",
            Rule::All(&[Rule::Peer("go", 3.0), Rule::Peer("may", LEVEL)]),
            Rule::At(8.0),
            ("3x Go, level with may", "8 ns"),
        )
    },
    bar(
        "channel unbuffered, 4 to 4, per item, ns",
        "chan_mpmc_unbuf",
        Rule::ByProcs(&Rule::Best(1.0), &Rule::Best(1.5)),
        Rule::Best(2.0),
        ("ahead of all at 1, 1.5x at 2", "2x the best"),
    ),
    Bar {
        like: bounded,
        ..bar(
            "channel of 128, 4 to 4, per item, ns",
            "chan_mpmc_128",
            Rule::ByProcs(&Rule::Best(1.0), &Rule::Best(1.5)),
            Rule::Best(2.0),
            ("ahead of all at 1, 1.5x at 2", "2x the best"),
        )
    },
    bar("select of 2, ns", "select2", Rule::Best(1.5), Rule::At(50.0), ("1.5x the best", "50 ns")),
    bar("select of 8, ns", "select8", Rule::Best(1.5), Rule::At(50.0), ("1.5x the best", "50 ns")),
    Bar {
        metric: "ms",
        ..bar(
            "prime sieve, 1500 primes, ms",
            "sieve",
            Rule::Best(1.5),
            Rule::Best(2.0),
            ("1.5x the best", "2x the best"),
        )
    },
    Bar {
        metric: "ms",
        ..bar("skynet, a million leaves, ms", "skynet", Rule::Best(3.0), Rule::At(150.0), ("3x the best", "150 ms"))
    },
    bar(
        "mutex, alone, ns",
        "mutex_uncontended",
        Rule::Peer("go", LEVEL),
        Rule::Peer("std", LEVEL),
        ("level with Go", "level with std's"),
    ),
    bar(
        "mutex, 8 contend, ns",
        "mutex_contended",
        Rule::Peer("go", LEVEL),
        Rule::Peer("std", LEVEL),
        ("level with Go", "level with std's"),
    ),
    Bar {
        metric: "ms",
        like: parallel,
        ..bar(
            "fork-join fib(32), ms",
            "fork_join",
            Rule::All(&[Rule::Peer("rayon", 1.0 / 1.5), Rule::Best(1.0)]),
            Rule::Peer("rayon", LEVEL),
            ("1.5x rayon's time, ahead of the rest", "level with rayon"),
        )
    },
    Bar {
        metric: "bytes_per_goroutine",
        ..bar(
            "a million parked, bytes each",
            "memory_1m",
            Rule::AtByMode(8192.0, 4608.0),
            Rule::None,
            ("2 pages isolated, 1 page + 512 B pinned", "less"),
        )
    },
    Bar {
        metric: "create_ns",
        ..bar(
            "a million parked, ns to create one",
            "memory_1m",
            Rule::Peer("go", 1.0),
            Rule::None,
            ("no slower than Go", ""),
        )
    },
    Bar {
        metric: "ms",
        ..bar("100,000 sleeps of 100 ms, ms", "sleep_many", Rule::Best(1.0), Rule::At(120.0), ("the best", "120 ms"))
    },
    Bar {
        like: timers,
        ..bar("timer, start + stop, ns", "timer_churn", Rule::Best(2.0), Rule::At(30.0), ("2x the best", "30 ns"))
    },
    Bar {
        variant: "goroutine_local! const inlined",
        metric: "get_ns",
        like: inlined,
        ..bar(
            "typed local, get, ns",
            "local_access",
            Rule::Peer("std", 1.0 / 1.5),
            Rule::Peer("std", LEVEL),
            ("1.5x std's", "std's"),
        )
    },
    Bar {
        variant: "goroutine_local! const inlined",
        metric: "set_ns",
        like: inlined,
        ..bar(
            "typed local, set, ns",
            "local_access",
            Rule::Peer("std", 1.0 / 1.5),
            Rule::Peer("std", LEVEL),
            ("1.5x std's", "std's"),
        )
    },
    Bar {
        variant: "dynamic",
        metric: "get_ns",
        like: by_id,
        ..bar("dynamic local, get, ns", "local_access", Rule::At(10.0), Rule::At(5.0), ("10 ns", "5 ns"))
    },
    Bar {
        variant: "dynamic",
        metric: "set_ns",
        like: by_id,
        ..bar("dynamic local, set, ns", "local_access", Rule::At(10.0), Rule::At(5.0), ("10 ns", "5 ns"))
    },
    Bar {
        metric: "p99_us",
        procs: &[2],
        ..bar(
            "a hog on each of 2 workers, p99 of a 1 ms sleep, us",
            "hog_latency",
            Rule::At(2000.0),
            Rule::At(1200.0),
            ("2 ms", "1.2 ms"),
        )
    },
];

/// Rows that compare gorun with itself: 2 processors with 1.
pub const SCALING: &[(&str, &str, &str, Rule, Rule)] = &[
    ("fork-join", "fork_join", "ms", Rule::Scaled(1.6), Rule::Scaled(1.9)),
    ("skynet", "skynet", "ms", Rule::Scaled(1.6), Rule::Scaled(1.9)),
    ("prime sieve", "sieve", "ms", Rule::Scaled(1.0), Rule::Scaled(1.9)),
    ("4 to 4, unbuffered", "chan_mpmc_unbuf", "ns_per_op", Rule::Scaled(1.0), Rule::None),
    ("4 to 4, capacity 128", "chan_mpmc_128", "ns_per_op", Rule::Scaled(1.0), Rule::None),
];

impl Bar {
    /// A peer's value in this row: the best of its variants that count.
    pub fn value(&self, table: &Table, peer: &str, procs: usize) -> Option<f64> {
        let cells = table.cells(peer, self.workload, self.metric, procs);
        if peer.starts_with("gorun") {
            return cells.into_iter().find(|cell| cell.variant == self.variant).map(|cell| cell.median);
        }
        cells.into_iter().filter(|cell| (self.like)(peer, &cell.variant)).map(|cell| cell.median).min_by(f64::total_cmp)
    }

    /// The least and the most of gorun's rounds.
    pub fn spread(&self, table: &Table<'_>, procs: usize) -> Option<(f64, f64)> {
        let cells = table.cells("gorun", self.workload, self.metric, procs);
        let rounds = &cells.into_iter().find(|cell| cell.variant == self.variant)?.rounds;
        let (least, most) =
            (rounds.iter().copied().min_by(f64::total_cmp)?, rounds.iter().copied().max_by(f64::total_cmp)?);
        Some((least, most))
    }

    /// The best of the runtimes, gorun and references aside.
    pub fn best(&self, table: &Table, procs: usize) -> Option<(&'static str, f64)> {
        let peers = catalog::PEERS.iter().map(|peer| peer.name).filter(|name| !name.starts_with("gorun"));
        peers.filter_map(|name| Some((name, self.value(table, name, procs)?))).min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The most that gorun's value may be.
    pub fn limit(&self, rule: Rule, table: &Table, gorun: &str, procs: usize) -> Option<f64> {
        match rule {
            Rule::Best(times) => self.best(table, procs).map(|(_, value)| value / times),
            Rule::Peer(peer, times) => self.value(table, peer, procs).map(|value| value / times),
            Rule::At(value) => Some(value),
            Rule::AtByMode(isolated, pinned) => Some(if gorun == "gorun" { isolated } else { pinned }),
            Rule::Scaled(times) => self.value(table, gorun, 1).map(|value| value / times),
            Rule::ByProcs(one, more) => self.limit(if procs == 1 { *one } else { *more }, table, gorun, procs),
            // A limit that is not known limits nothing; which peers were run is on the page.
            Rule::All(rules) => {
                rules.iter().filter_map(|rule| self.limit(*rule, table, gorun, procs)).min_by(f64::total_cmp)
            }
            Rule::None => None,
        }
    }

    pub fn asks(&self, procs: usize) -> bool {
        self.procs.is_empty() || self.procs.contains(&procs)
    }
}
