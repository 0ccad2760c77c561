//! The pages: a table for each number of processors with the bars, gorun with itself, everything, what failed.

use crate::bars::{BARS, Bar, Rule, SCALING};
use crate::catalog::{PEERS, REFERENCES};
use crate::results::{Failure, Results, Table};
use std::fmt::Write;
use std::fs;
use std::path::Path;

pub fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// The whole page of a run.
pub fn page(results: &Results) -> String {
    let mut page = String::from("# Benchmarks\n\nWritten by `benches/peers/run`; what the workloads are is in ");
    page +=
        "[benches/peers/README.md](../../benches/peers/README.md). Instruction counts, which need no quiet machine: ";
    page += "[instructions.md](instructions.md). What the time of missed bars is spent on: [missed.md](missed.md).\n\n";
    page += &provenance(results);
    page += &headline(results);
    page += &scaling(results);
    page += &curves(results);
    page += &everything(results);
    page += &failures(results);
    page
}

fn provenance(results: &Results) -> String {
    let added = results.added.iter().map(|run| format!("* Measured again in a run of its own: {run}\n"));
    let notes = results.notes.iter().map(|note| format!("* {note}\n"));
    let list = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("; ")
    };
    format!(
        "**Only ratios within this one run mean anything**: the peers' processes took turns, so that whatever else the \
         machine did met all of them alike. Times of different runs, or of other machines, can't be compared.\n\n\
         * {}, commit {}: `{}`\n* {} rounds (processes), {} repetitions in each; a value is the median of the \
         processes' medians\n* {}\n* {}\n{}\n",
        results.date,
        results.commit,
        results.command,
        results.rounds,
        results.repetitions,
        list(&results.machine),
        list(&results.versions),
        added.chain(notes).collect::<String>()
    )
}

/// The bars' tables.
pub fn headline(results: &Results) -> String {
    let table = Table(results);
    let mut text = String::new();
    for procs in table.procs() {
        let rows: Vec<&Bar> = BARS.iter().filter(|bar| bar.asks(procs) && table_has(&table, bar, procs)).collect();
        if rows.is_empty() {
            continue;
        }
        let columns = columns(&table, procs);
        let plural = if procs == 1 { "" } else { "s" };
        let _ = writeln!(text, "## {procs} processor{plural}\n");
        let _ = writeln!(
            text,
            "Less is better. *Spread*: the least and the most of gorun's rounds. *Ratio*: the best other runtime's value by \
             gorun's; above 1 gorun is ahead. A missed bar says by how much.\n"
        );
        let _ = writeln!(text, "| workload | {} | spread | ratio | must | aim |", columns.join(" | "));
        let _ = writeln!(text, "|---|{}---:|---|---|---|", "---:|".repeat(columns.len()));
        for bar in rows {
            let cells = columns.iter().map(|peer| match bar.value(&table, peer, procs) {
                Some(value) => number(value),
                None => missing(&table, bar, peer, procs),
            });
            let cells = cells.collect::<Vec<_>>().join(" | ");
            let spread =
                bar.spread(&table, procs).map_or(String::new(), |(a, b)| format!("{}–{}", number(a), number(b)));
            let ratio = ratio(&table, bar, procs).map_or(String::new(), |(r, peer)| format!("{} ({peer})", number(r)));
            let must = verdict(bar, bar.must, bar.words.0, &table, procs);
            let aim = verdict(bar, bar.aim, bar.words.1, &table, procs);
            let _ = writeln!(text, "| {} | {cells} | {spread} | {ratio} | {must} | {aim} |", bar.title);
        }
        text.push('\n');
    }
    text
}

/// The best other runtime's value by gorun's, and whose it is.
fn ratio(table: &Table<'_>, bar: &Bar, procs: usize) -> Option<(f64, &'static str)> {
    let (peer, best) = bar.best(table, procs)?;
    Some((best / bar.value(table, "gorun", procs)?, peer))
}

/// The table of the project's page: gorun and the best of the others, all numbers of processors side by side.
fn brief(results: &Results) -> String {
    let table = Table(results);
    let all_procs = table.procs();
    let mut text = String::from("| workload |");
    for procs in &all_procs {
        let plural = if *procs == 1 { "" } else { "s" };
        let _ = write!(text, " gorun, {procs} processor{plural} | best other | ratio | must |");
    }
    let _ = writeln!(text, "\n|---|{}", "---:|---:|---:|---|".repeat(all_procs.len()));
    for bar in BARS {
        let _ = write!(text, "| {} |", bar.title);
        for &procs in &all_procs {
            if !bar.asks(procs) {
                text += " | | | |";
                continue;
            }
            let own = bar.value(&table, "gorun", procs).map_or_else(|| missing(&table, bar, "gorun", procs), number);
            let best =
                bar.best(&table, procs).map_or(String::new(), |(peer, value)| format!("{} {peer}", number(value)));
            let ratio = ratio(&table, bar, procs).map_or(String::new(), |(ratio, _)| number(ratio));
            let must = verdict(bar, bar.must, bar.words.0, &table, procs);
            let met = must.split(' ').next().unwrap_or_default();
            let _ = write!(text, " {own} | {best} | {ratio} | {met} |");
        }
        text.push('\n');
    }
    text + "\n"
}

fn table_has(table: &Table<'_>, bar: &Bar, procs: usize) -> bool {
    PEERS.iter().any(|peer| bar.value(table, peer.name, procs).is_some())
}

/// Who has any value at all.
fn columns(table: &Table<'_>, procs: usize) -> Vec<&'static str> {
    let names = PEERS.iter().map(|peer| peer.name).chain(REFERENCES.iter().copied());
    names.filter(|name| BARS.iter().any(|bar| bar.value(table, name, procs).is_some())).collect()
}

fn missing(table: &Table<'_>, bar: &Bar, peer: &str, procs: usize) -> String {
    match table.failure(peer, bar.workload, procs) {
        Some(failure) if failure.error.starts_with("n/a") => "n/a".to_owned(),
        Some(_) => "fails".to_owned(),
        None => String::new(),
    }
}

/// gorun's value against the limit, in the default mode.
fn verdict(bar: &Bar, rule: Rule, words: &str, table: &Table<'_>, procs: usize) -> String {
    if !bar.asks(procs) || words.is_empty() {
        return String::new();
    }
    let Some(limit) = bar.limit(rule, table, "gorun", procs) else { return words.to_owned() };
    match bar.value(table, "gorun", procs) {
        Some(value) if value <= limit => format!("✓ {words}"),
        Some(value) => format!("✗ {words}: {:.2}x over {}", value / limit, number(limit)),
        None => format!("✗ {words}: no value"),
    }
}

fn scaling(results: &Results) -> String {
    let table = Table(results);
    let mut text = String::new();
    for (title, workload, metric, must, aim) in SCALING {
        let value = |peer: &str, procs| table.cells(peer, workload, metric, procs).first().map(|cell| cell.median);
        let speedup = |peer: &str| Some(value(peer, 1)? / value(peer, 2)?);
        let Some(own) = speedup("gorun") else { continue };
        let others = PEERS.iter().map(|peer| speedup(peer.name).map_or(String::new(), |s| format!("{s:.2}")));
        let others = others.collect::<Vec<_>>().join(" | ");
        let asked = |rule: &Rule| match rule {
            Rule::Scaled(times) => format!("{} {times}", if own >= *times { "✓" } else { "✗" }),
            _ => String::new(),
        };
        let _ = writeln!(text, "| {title} | {others} | {} | {} |", asked(must), asked(aim));
    }
    if text.is_empty() {
        return text;
    }
    let names = PEERS.iter().map(|peer| peer.name).collect::<Vec<_>>().join(" | ");
    let head = format!("| workload | {names} | must | aim |\n|---|{}---|---|\n", "---:|".repeat(PEERS.len()));
    format!("## From 1 to 2 processors\n\nTime with one by time with two.\n\n{head}{text}\n")
}

fn curves(results: &Results) -> String {
    let drawn =
        crate::catalog::CURVES.iter().filter(|curve| results.cells.iter().any(|c| c.workload == curve.workload));
    let images: String = drawn.map(|curve| format!("![{}]({}.svg)\n\n", curve.title, curve.workload)).collect();
    if images.is_empty() { images } else { format!("## Scaling\n\nOne processor, one shot a process.\n\n{images}") }
}

fn everything(results: &Results) -> String {
    let mut text = String::from("## Everything\n\nMedian, and the least and the most of all runs.\n\n");
    text += "| workload | n | metric | peer | variant | processors | median | least | most | runs | note |\n";
    text += "|---|---:|---|---|---|---:|---:|---:|---:|---:|---|\n";
    for c in &results.cells {
        let starved = if c.starved_runs > 0 { format!("starved in {} runs ", c.starved_runs) } else { String::new() };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {starved}{} |",
            c.workload,
            c.n,
            c.metric,
            c.peer,
            c.variant,
            c.procs,
            number(c.median),
            number(c.least),
            number(c.most),
            c.runs,
            c.note
        );
    }
    text + "\n"
}

fn failures(results: &Results) -> String {
    if results.failures.is_empty() {
        return String::new();
    }
    let mut text = String::from("## What could not be run\n\n| workload | peer | processors | n | what | it said |\n");
    text += "|---|---|---|---|---|---|\n";
    // One row for what is the same with other numbers; what was said differs in thread ids only.
    let mut rows: Vec<(&Failure, Vec<String>, Vec<String>)> = Vec::new();
    for f in &results.failures {
        let same = |g: &Failure| (&g.workload, &g.peer, &g.error) == (&f.workload, &f.peer, &f.error);
        let at = rows.iter().position(|row| same(row.0)).unwrap_or(rows.len());
        if at == rows.len() {
            rows.push((f, Vec::new(), Vec::new()));
        }
        let (procs, n) = (f.procs.to_string(), if f.n == 0 { String::new() } else { f.n.to_string() });
        let (_, all_procs, all_n) = &mut rows[at];
        for (list, item) in [(all_procs, procs), (all_n, n)] {
            if !item.is_empty() && !list.contains(&item) {
                list.push(item);
            }
        }
    }
    for (f, procs, n) in rows {
        let said = f.stderr.replace('|', "\\|");
        let (procs, n) = (procs.join(", "), n.join(", "));
        let _ = writeln!(text, "| {} | {} | {procs} | {n} | {} | {said} |", f.workload, f.peer, f.error);
    }
    text + "\n"
}

const BEGIN: &str = "<!-- benchmarks: begin -->\n";
const END: &str = "<!-- benchmarks: end -->\n";

/// Replaces what is between the marks of the project's page, if it has them.
pub fn insert(results: &Results, page: &Path) -> Result<(), String> {
    let at = |error| format!("{}: {error}", page.display());
    let text = fs::read_to_string(page).map_err(at)?;
    let Some((before, rest)) = text.split_once(BEGIN) else { return Ok(()) };
    let Some((_, after)) = rest.split_once(END) else { return Ok(()) };
    let what = format!(
        "Commit {}, {}{}. Less is better. *Ratio*: the best other runtime's value by gorun's; above 1 gorun is ahead. *Must*: \
         whether the project's own bar is met, which mostly asks for more than the lead. Only ratios within a row \
         mean anything; every peer's values, spread, bars, scaling and what could not be run are in \
         [docs/benchmarks](docs/benchmarks/README.md).\n\n",
        results.commit,
        results.date,
        if results.added.is_empty() {
            ""
        } else {
            "; for rows measured again since, the commits named in the full tables"
        },
    );
    let plots = "![gorun and its peers, 2 processors](docs/benchmarks/peers-2.svg)\n\n";
    fs::write(page, format!("{before}{BEGIN}\n{plots}{what}{}{END}{after}", brief(results))).map_err(at)
}
