//! What the programs print, what is kept of it, and the look-ups of the tables.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A line of a program.
#[derive(Debug, Deserialize)]
pub struct Line {
    pub peer: String,
    #[serde(default)]
    pub variant: String,
    #[serde(default)]
    pub metric: String,
    pub value: Option<f64>,
    #[serde(default)]
    pub min: f64,
    #[serde(default)]
    pub max: f64,
    #[serde(default)]
    pub runs: usize,
    #[serde(default)]
    pub n: usize,
    #[serde(default)]
    pub note: String,
    #[serde(default)]
    pub starved_runs: usize,
    pub error: Option<String>,
}

/// One value of one peer: the median of its processes' medians, and the least and the most that any run showed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Cell {
    pub peer: String,
    pub workload: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    pub procs: usize,
    pub metric: String,
    pub n: usize,
    pub median: f64,
    pub least: f64,
    pub most: f64,
    /// The medians of the processes, in the order of the rounds.
    pub rounds: Vec<f64>,
    /// Measurements in all processes.
    pub runs: usize,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub starved_runs: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What a peer cannot do, or did not survive.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Failure {
    pub peer: String,
    pub workload: String,
    pub procs: usize,
    pub n: usize,
    pub error: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
}

/// A whole run: `results.json`.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Results {
    pub command: String,
    pub date: String,
    pub commit: String,
    pub machine: BTreeMap<String, String>,
    pub versions: BTreeMap<String, String>,
    pub rounds: usize,
    pub repetitions: usize,
    /// Remarks on the circumstances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Later runs that replaced some of the workloads: `--again`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    pub cells: Vec<Cell>,
    pub failures: Vec<Failure>,
}

impl Results {
    /// Adds a process's line; `peer` is the program that printed it.
    pub fn add(&mut self, line: Line, peer: &str, workload: &str, procs: usize, size: usize) {
        let name = if line.peer.starts_with("gorun") { peer.to_owned() } else { line.peer };
        let Some(value) = line.value else {
            let error = line.error.unwrap_or_else(|| "no value".to_owned());
            return self.fail(Failure {
                peer: name,
                workload: workload.to_owned(),
                procs,
                n: size,
                error,
                stderr: String::new(),
            });
        };
        let same = |cell: &&mut Cell| {
            (&*cell.peer, &*cell.workload, cell.procs) == (&*name, workload, procs)
                && (&cell.variant, &cell.metric, cell.n) == (&line.variant, &line.metric, line.n)
        };
        if let Some(cell) = self.cells.iter_mut().find(same) {
            cell.rounds.push(value);
            cell.median = median(&cell.rounds);
            cell.least = cell.least.min(line.min);
            cell.most = cell.most.max(line.max);
            cell.runs += line.runs;
            cell.starved_runs += line.starved_runs;
            return;
        }
        self.cells.push(Cell {
            peer: name,
            workload: workload.to_owned(),
            variant: line.variant,
            procs,
            metric: line.metric,
            n: line.n,
            median: value,
            least: line.min,
            most: line.max,
            rounds: vec![value],
            runs: line.runs,
            note: line.note,
            starved_runs: line.starved_runs,
        });
    }

    /// Takes over a later run of some workloads, whole: a row's values are always of one run.
    pub fn replace(&mut self, later: Results) {
        let again = |workload: &str| {
            later.cells.iter().any(|c| c.workload == workload) || later.failures.iter().any(|f| f.workload == workload)
        };
        self.cells.retain(|cell| !again(&cell.workload));
        self.failures.retain(|failure| !again(&failure.workload));
        let machine = later.machine.iter().filter(|(name, _)| name.contains("load") || name.contains("stolen"));
        let machine = machine.map(|(name, value)| format!("; {name}: {value}")).collect::<String>();
        let rounds = format!("{} rounds, {} repetitions", later.rounds, later.repetitions);
        self.added.push(format!("{}, commit {}: `{}`; {rounds}{machine}", later.date, later.commit, later.command));
        self.notes.extend(later.notes);
        self.cells.extend(later.cells);
        self.failures.extend(later.failures);
    }

    pub fn failed(&self, peer: &str, workload: &str, procs: usize, n: usize) -> bool {
        self.failures.iter().any(|f| (&*f.peer, &*f.workload, f.procs, f.n) == (peer, workload, procs, n))
    }

    pub fn fail(&mut self, failure: Failure) {
        if !self.failed(&failure.peer, &failure.workload, failure.procs, failure.n) {
            self.failures.push(failure);
        }
    }
}

/// Look-ups.
#[derive(Debug)]
pub struct Table<'a>(pub &'a Results);

impl Table<'_> {
    pub fn cells(&self, peer: &str, workload: &str, metric: &str, procs: usize) -> Vec<&Cell> {
        let wanted = (peer, workload, metric, procs);
        self.0.cells.iter().filter(|c| (&*c.peer, &*c.workload, &*c.metric, c.procs) == wanted).collect()
    }

    pub fn failure(&self, peer: &str, workload: &str, procs: usize) -> Option<&Failure> {
        self.0.failures.iter().find(|f| (&*f.peer, &*f.workload, f.procs) == (peer, workload, procs))
    }

    pub fn procs(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.0.cells.iter().map(|cell| cell.procs).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The one in the middle, of two the mean.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: f64) -> Line {
        let text = format!(r#"{{"peer":"go","metric":"ns","value":{value},"min":{value},"max":{value},"runs":1}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn rounds_become_one_cell_with_their_median_and_spread() {
        let mut results = Results::default();
        for value in [3.0, 9.0, 4.0] {
            results.add(line(value), "go", "ring", 2, 0);
        }
        let [cell] = &results.cells[..] else { panic!("{} cells", results.cells.len()) };
        assert_eq!((cell.median, cell.least, cell.most, cell.runs), (4.0, 3.0, 9.0, 3));
    }

    #[test]
    fn a_later_run_replaces_its_workloads_and_no_others() {
        let (mut results, mut later) = (Results::default(), Results::default());
        results.add(line(1.0), "go", "ring", 1, 0);
        results.add(line(1.0), "go", "ring", 2, 0);
        results.add(line(2.0), "go", "sieve", 1, 0);
        later.add(line(3.0), "go", "ring", 1, 0);
        results.replace(later);
        let all: Vec<_> = results.cells.iter().map(|cell| (&*cell.workload, cell.procs, cell.median)).collect();
        assert_eq!(all, [("sieve", 1, 2.0), ("ring", 1, 3.0)]);
        assert_eq!(results.added.len(), 1);
    }

    #[test]
    fn median_of_two_is_their_mean() {
        assert_eq!(median(&[1.0, 4.0]), 2.5);
    }
}
