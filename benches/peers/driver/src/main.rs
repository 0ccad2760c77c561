//! Runs every workload for every peer, interleaved, and writes what it saw: `results.json`, tables, plots.
//!
//! `benches/peers/run` builds and calls this; `--help` says what can be chosen.

mod bars;
mod catalog;
mod machine;
mod plot;
mod process;
mod results;
mod tables;

use catalog::{CURVES, PEERS, Peer, SMALL, WORKLOADS};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use process::Site;
use results::{Failure, Line, Results};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Measures gorun beside its peers on the same workloads.
#[derive(Debug, Parser)]
#[command(name = "benches/peers/run")]
struct Options {
    /// Peers: gorun, gorun-pinned, go, tokio, may, go-lib, smol, java. Default: all but java.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Workloads, also those that are left out by default (such as skynet_10k). Default: all.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Processors.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    procs: Vec<usize>,
    /// Rounds: processes for each value.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Repetitions in a process, after one to warm up.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// Rounds of the scaling curves. Default: as many as of the rest.
    #[arg(long)]
    curve_rounds: Option<usize>,
    /// Milliseconds that the hogs of hog_latency spin in each repetition.
    #[arg(long, default_value_t = 3000)]
    hog_ms: u64,
    /// One round of two repetitions, short hogs, fewer points in the curves.
    #[arg(long)]
    quick: bool,
    /// Without the scaling curves.
    #[arg(long)]
    no_curves: bool,
    /// Only the scaling curves.
    #[arg(long, conflicts_with = "no_curves")]
    only_curves: bool,
    /// Seconds after which a process is ended.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// Does not build; what is there is run.
    #[arg(long)]
    no_build: bool,
    /// Runs nothing; tables and plots are made again of the results that are there.
    #[arg(long)]
    report: bool,
    /// Puts what is measured into the results that are there, in place of the same workloads' values.
    #[arg(long)]
    again: bool,
    /// A remark on the circumstances, for the page.
    #[arg(long)]
    note: Option<String>,
    /// Where results go. Default: docs/benchmarks.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// One process to be run.
struct Job {
    peer: &'static Peer,
    workload: &'static str,
    procs: usize,
    size: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches/peers/run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut options: Options) -> Result<(), String> {
    let peers_directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = peers_directory.join("../..");
    let out = options.out.clone().unwrap_or_else(|| root.join("docs/benchmarks"));
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let json = out.join("results.json");
    if options.report {
        let mut results = load(&json)?;
        results.notes.extend(options.note);
        save(&results, &json)?;
        return write(&results, &out, &root);
    }
    let earlier = if options.again { Some(load(&json)?) } else { None };
    if options.quick {
        (options.rounds, options.repeat, options.hog_ms) = (1, 2, 1000);
    }
    let peers = chosen_peers(&options.peers)?;
    let jobs = jobs(&options, &peers)?;
    let site = Site {
        target: std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| peers_directory.join("target"), PathBuf::from),
        timeout: Duration::from_secs(options.timeout),
        env: vec![
            ("PEER_REPEAT".into(), options.repeat.to_string()),
            ("PEER_HOG_MS".into(), options.hog_ms.to_string()),
        ],
        peers: peers_directory,
    };
    if !options.no_build {
        build(&site, &peers, &jobs)?;
    }
    let mut results = Results {
        command: command_line(),
        date: machine::date(),
        commit: machine::commit(&root),
        machine: machine::machine(),
        versions: machine::versions(&site.peers),
        repetitions: options.repeat,
        notes: options.note.into_iter().collect(),
        ..Results::default()
    };
    let curve_rounds = options.curve_rounds.unwrap_or(options.rounds);
    // What was there stays until the new run is whole.
    let kept = if earlier.is_some() { json.with_extension("json.new") } else { json.clone() };
    measure(&site, &jobs, (options.rounds, curve_rounds), &mut results, &kept)?;
    if let Some(mut earlier) = earlier {
        earlier.replace(results);
        results = earlier;
        save(&results, &json)?;
        fs::remove_file(&kept).map_err(|error| format!("{}: {error}", kept.display()))?;
    }
    write(&results, &out, &root)
}

/// As it was called; a directory is left out.
fn command_line() -> String {
    let mut words = vec!["benches/peers/run".to_owned()];
    let mut args = std::env::args().skip(1);
    while let Some(word) = args.next() {
        match word.strip_prefix("--out") {
            Some("") => _ = args.next(),
            Some(_) => {}
            None => words.push(word),
        }
    }
    words.join(" ")
}

fn chosen_peers(names: &[String]) -> Result<Vec<&'static Peer>, String> {
    if names.is_empty() {
        return Ok(PEERS.iter().filter(|peer| peer.name != "java").collect());
    }
    names.iter().map(|name| catalog::peer(name).ok_or_else(|| format!("no such peer: {name}"))).collect()
}

/// Peers next to each other, workload by workload.
fn jobs(options: &Options, peers: &[&'static Peer]) -> Result<Vec<Job>, String> {
    let known = |name: &&str| WORKLOADS.contains(name) || CURVES.iter().any(|curve| curve.workload == *name);
    if let Some(name) = options.workloads.iter().map(String::as_str).find(|name| !known(name)) {
        return Err(format!("no such workload: {name}; there are {}", WORKLOADS.join(", ")));
    }
    let wanted = |name: &str, by_default: bool| {
        if options.workloads.is_empty() { by_default } else { options.workloads.iter().any(|w| w == name) }
    };
    let mut all = Vec::new();
    for workload in WORKLOADS.iter().filter(|w| wanted(w, !SMALL.contains(w) && !options.only_curves)) {
        for &procs in &options.procs {
            let able = peers.iter().filter(|peer| catalog::has(peer, workload));
            all.extend(able.map(|peer| Job { peer, workload, procs, size: 0 }));
        }
    }
    for curve in CURVES.iter().filter(|curve| wanted(curve.workload, !options.no_curves)) {
        for (i, &size) in curve.sizes.iter().enumerate() {
            if options.quick && i % 2 == 1 {
                continue;
            }
            let able = peers.iter().filter(|peer| catalog::has(peer, curve.workload));
            all.extend(able.map(|peer| Job { peer, workload: curve.workload, procs: 1, size }));
        }
    }
    Ok(all)
}

fn build(site: &Site, peers: &[&Peer], jobs: &[Job]) -> Result<(), String> {
    let mut builds: Vec<_> = peers.iter().map(|peer| peer.build).collect();
    if jobs.iter().any(|job| job.workload == "tcp_echo") {
        builds.push(catalog::Build::Cargo("peer-loadgen"));
    }
    builds.dedup();
    let bar = progress(builds.len(), "build");
    for what in builds {
        bar.set_message(format!("{what:?}"));
        site.build(what)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// What failed once is not tried again: it would be the same, and most failures take as long as they may.
fn measure(
    site: &Site,
    jobs: &[Job],
    (rounds, curve_rounds): (usize, usize),
    results: &mut Results,
    json: &Path,
) -> Result<(), String> {
    let in_round = |round: usize, job: &&Job| round < if job.size == 0 { rounds } else { curve_rounds };
    let all = (0..rounds.max(curve_rounds)).map(|round| jobs.iter().filter(|job| in_round(round, job)).count()).sum();
    let bar = progress(all, "run");
    let stolen = machine::stolen();
    for round in 0..rounds.max(curve_rounds) {
        for job in jobs.iter().filter(|job| in_round(round, job)) {
            bar.inc(1);
            if results.failed(job.peer.name, job.workload, job.procs, job.size) {
                continue;
            }
            bar.set_message(format!("round {} {} {} {}", round + 1, job.workload, job.procs, job.peer.name));
            let (stdout, error) = site.run(job.peer, job.workload, job.procs, job.size);
            let lines = stdout.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
            lines.for_each(|line| results.add(line, job.peer.name, job.workload, job.procs, job.size));
            if let Some((error, stderr)) = error {
                let (peer, workload) = (job.peer.name.to_owned(), job.workload.to_owned());
                results.fail(Failure { peer, workload, procs: job.procs, n: job.size, error, stderr });
            }
        }
        results.rounds = round + 1;
        machine::at_the_end(&mut results.machine, stolen);
        save(results, json)?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn progress(len: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{elapsed}] {bar:30} {pos}/{len} {msg}");
    ProgressBar::new(len as u64).with_prefix(what).with_style(style.expect("a template"))
}

fn load(json: &Path) -> Result<Results, String> {
    let text = fs::read_to_string(json).map_err(|error| format!("{}: {error}", json.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", json.display()))
}

fn save(results: &Results, json: &Path) -> Result<(), String> {
    let text = serde_json::to_string_pretty(results).map_err(|error| error.to_string())?;
    fs::write(json, text + "\n").map_err(|error| format!("{}: {error}", json.display()))
}

fn write(results: &Results, out: &Path, root: &Path) -> Result<(), String> {
    let page = out.join("README.md");
    fs::write(&page, tables::page(results)).map_err(|error| format!("{}: {error}", page.display()))?;
    plot::all(results, out)?;
    if out.canonicalize().ok() == root.join("docs/benchmarks").canonicalize().ok() {
        tables::insert(results, &root.join("README.md"))?;
    }
    print!("{}", tables::headline(results));
    Ok(())
}
