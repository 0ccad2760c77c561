//! Who runs what: the peers, how each is built and called, and the workloads.

/// A program to be compared. `gorun` is there twice, once for each mode.
#[derive(Debug)]
pub struct Peer {
    pub name: &'static str,
    /// The cargo package, or how else it is built.
    pub build: Build,
    /// Environment of its processes.
    pub env: &'static [(&'static str, &'static str)],
    /// Its colour in plots.
    pub color: (u8, u8, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    Cargo(&'static str),
    Go,
    Java,
}

pub const PEERS: &[Peer] = &[
    Peer {
        name: "gorun",
        build: Build::Cargo("peer-gorun"),
        env: &[("GORUN_THREAD_LOCALS", "isolated")],
        color: (200, 30, 30),
    },
    Peer {
        name: "gorun-pinned",
        build: Build::Cargo("peer-gorun"),
        env: &[("GORUN_THREAD_LOCALS", "pinned")],
        color: (240, 140, 120),
    },
    Peer { name: "go", build: Build::Go, env: &[], color: (0, 150, 200) },
    Peer { name: "tokio", build: Build::Cargo("peer-tokio"), env: &[], color: (70, 70, 70) },
    Peer { name: "may", build: Build::Cargo("peer-may"), env: &[], color: (120, 160, 40) },
    Peer { name: "go-lib", build: Build::Cargo("peer-go-lib"), env: &[], color: (150, 90, 190) },
    Peer { name: "smol", build: Build::Cargo("peer-smol"), env: &[], color: (200, 160, 40) },
    Peer { name: "java", build: Build::Java, env: &[], color: (160, 110, 80) },
];

/// Names that appear in results without being programs: what tokio's program measures for reference.
pub const REFERENCES: &[&str] = &["rayon", "std"];

pub fn peer(name: &str) -> Option<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name)
}

/// One program run by name; in the order of the tables.
pub const WORKLOADS: &[&str] = &[
    "spawn_join",
    "spawn_join_batched",
    "spawn_join_one",
    "yield_2",
    "yield_1000",
    "pingpong",
    "ring",
    "chan_spsc",
    "chan_mpmc_unbuf",
    "chan_mpmc_128",
    "select2",
    "select8",
    "sieve",
    "skynet",
    "skynet_10k",
    "mutex_uncontended",
    "mutex_contended",
    "fork_join",
    "memory_25k",
    "memory_100k",
    "memory_1m",
    "sleep_many",
    "sleep_25k",
    "timer_churn",
    "local_access",
    "hog_latency",
    "tcp_echo",
];

/// Left out by default: the same as another workload, for those peers that cannot do that one; and what gorun cannot do
/// yet.
pub const SMALL: &[&str] = &["spawn_join_batched", "skynet_10k", "memory_25k", "memory_100k", "sleep_25k", "tcp_echo"];

const JAVA: &[&str] = &[
    "spawn_join",
    "spawn_join_one",
    "yield_2",
    "yield_1000",
    "pingpong",
    "skynet",
    "skynet_10k",
    "memory_25k",
    "memory_100k",
    "memory_1m",
];

/// Whether there is a program for it.
pub fn has(peer: &Peer, workload: &str) -> bool {
    match (peer.name, workload) {
        ("java", _) => JAVA.contains(&workload),
        (name, "spawn_join_batched") => name == "may",
        (name, "tcp_echo") => ["go", "tokio", "may"].contains(&name),
        (name, _) if workload.starts_with("curve_") => name != "may",
        _ => true,
    }
}

/// A scaling curve: sizes, and what its points are called.
#[derive(Debug)]
pub struct Curve {
    pub workload: &'static str,
    pub title: &'static str,
    pub across: &'static str,
    pub sizes: &'static [usize],
}

pub const CURVES: &[Curve] = &[
    Curve {
        workload: "curve_goroutines",
        title: "Parked goroutines: to create one of them",
        across: "goroutines",
        sizes: &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000],
    },
    Curve {
        workload: "curve_timers",
        title: "Pending timers: to start one of them",
        across: "timers",
        sizes: &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000],
    },
    Curve {
        workload: "curve_waiters",
        title: "Waiters on one channel: to wake one of them",
        across: "waiters",
        sizes: &[1, 10, 100, 1_000, 10_000, 100_000],
    },
    Curve {
        workload: "curve_select",
        title: "Select of many arms: a round trip through it",
        across: "arms",
        sizes: &[1, 2, 4, 8, 16, 32, 64, 256, 1024],
    },
];
