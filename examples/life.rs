//! Conway's life with one goroutine for each band of rows, and a barrier after each half of a step.
//!
//! Each band reads its neighbours' rows of the old generation and writes its own of the new one; nobody begins to write
//! before all have read, and nobody reads before all have written. Run with `cargo run --example life`.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use gorun::sync::{Barrier, RwLock};

const WIDTH: usize = 48;
const HEIGHT: usize = 24;
const BANDS: usize = 6;
const GENERATIONS: usize = 4 * 24;

type Grid = Vec<Vec<bool>>;

fn lives(grid: &Grid, row: usize, column: usize) -> bool {
    let around = [HEIGHT - 1, 0, 1].into_iter().flat_map(|down| [WIDTH - 1, 0, 1].map(|right| (down, right)));
    let neighbours = around
        .filter(|at| *at != (0, 0))
        .filter(|(down, right)| grid[(row + down) % HEIGHT][(column + right) % WIDTH])
        .count();
    neighbours == 3 || (neighbours == 2 && grid[row][column])
}

fn step(grid: &Grid, row: usize) -> Vec<bool> {
    (0..WIDTH).map(|column| lives(grid, row, column)).collect()
}

/// `generations` later, computed by `BANDS` goroutines.
fn run(grid: Grid, generations: usize) -> Grid {
    let (grid, barrier) = (RwLock::new(grid), Barrier::new(BANDS));
    gorun::scope(|s| {
        for rows in (0..HEIGHT).collect::<Vec<_>>().chunks(HEIGHT / BANDS) {
            let (grid, barrier, rows) = (&grid, &barrier, rows.to_vec());
            s.go(move || {
                for _ in 0..generations {
                    let new: Vec<_> = {
                        let old = grid.read();
                        rows.iter().map(|row| step(&old, *row)).collect()
                    };
                    barrier.wait(); // all have read
                    for (row, cells) in rows.iter().zip(new) {
                        grid.write()[*row] = cells;
                    }
                    barrier.wait(); // all have written
                }
            });
        }
    });
    grid.into_inner()
}

fn main() {
    // A glider: after four generations the same, one cell further down and to the right.
    let mut grid = vec![vec![false; WIDTH]; HEIGHT];
    for (row, column) in [(0, 1), (1, 2), (2, 0), (2, 1), (2, 2)] {
        grid[row][column] = true;
    }
    let start = grid.clone();
    let end = gorun::run(move || run(grid, GENERATIONS));
    for row in &end {
        println!("{}", row.iter().map(|cell| if *cell { '#' } else { '.' }).collect::<String>());
    }
    let moved = GENERATIONS / 4;
    for (row, column) in (0..HEIGHT).flat_map(|row| (0..WIDTH).map(move |column| (row, column))) {
        assert_eq!(start[row][column], end[(row + moved) % HEIGHT][(column + moved) % WIDTH], "({row}, {column})");
    }
}
