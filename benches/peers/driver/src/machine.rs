//! What a result depends on: machine, versions, commit. No names of hosts or directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The first line of what a command prints.
fn first_line(program: &str, args: &[&str], directory: &Path) -> Option<String> {
    let output = Command::new(program).args(args).current_dir(directory).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    output.status.success().then(|| String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

pub fn machine() -> BTreeMap<String, String> {
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    BTreeMap::from([
        ("cpu".to_owned(), cpu.unwrap_or("unknown").to_owned()),
        ("processors".to_owned(), std::thread::available_parallelism().map_or(0, |n| n.get()).to_string()),
        ("kernel".to_owned(), read("/proc/sys/kernel/osrelease")),
        ("load average at the start".to_owned(), load()),
        ("vm.max_map_count".to_owned(), read("/proc/sys/vm/max_map_count")),
    ])
}

fn load() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Ticks that the hypervisor gave to others, and all ticks, of all processors.
pub fn stolen() -> (u64, u64) {
    let stat = read("/proc/stat");
    let ticks: Vec<u64> = stat.lines().next().unwrap_or_default().split(' ').filter_map(|n| n.parse().ok()).collect();
    (ticks.get(7).copied().unwrap_or_default(), ticks.iter().take(8).sum())
}

/// What only the end of a run knows: how busy the machine was meanwhile.
pub fn at_the_end(machine: &mut BTreeMap<String, String>, (stolen, all): (u64, u64)) {
    let (stolen, all) = {
        let now = self::stolen();
        (now.0 - stolen, now.1 - all)
    };
    machine.insert("load average at the end".to_owned(), load());
    machine
        .insert("stolen by the hypervisor".to_owned(), format!("{:.1} %", 100.0 * stolen as f64 / all.max(1) as f64));
}

/// Compilers, and the peers' crates out of Cargo.lock.
pub fn versions(peers: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, program, args) in
        [("rustc", "rustc", "--version"), ("go", "go", "version"), ("java", "java", "-version")]
    {
        if let Some(line) = first_line(program, &[args], peers) {
            all.insert(name.to_owned(), line);
        }
    }
    let lock = fs::read_to_string(peers.join("Cargo.lock")).unwrap_or_default();
    let wanted =
        ["tokio", "may", "generator", "go-lib", "smol", "async-executor", "async-channel", "flume", "rayon", "mio"];
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            package.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(" = \"")?.trim_end_matches('"')))
        };
        if let (Some(name), Some(version)) = (field("name"), field("version"))
            && wanted.contains(&name)
        {
            all.insert(name.to_owned(), version.to_owned());
        }
    }
    all
}

/// The commit, and whether what is measured differs from it.
pub fn commit(root: &Path) -> String {
    let Some(commit) = first_line("git", &["rev-parse", "--short=12", "HEAD"], root) else {
        return "unknown".to_owned();
    };
    match first_line("git", &["status", "--porcelain", "--", "src", "scheduler", "benches/peers"], root) {
        Some(changed) if !changed.is_empty() => format!("{commit} with changes"),
        _ => commit,
    }
}

pub fn date() -> String {
    first_line("date", &["-u", "+%Y-%m-%d"], Path::new(".")).unwrap_or_default()
}
