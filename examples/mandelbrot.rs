//! A parallel Mandelbrot set: one goroutine a row, the image written as a PNG.
//!
//! Run with `cargo run --release --example mandelbrot -- mandelbrot.png`; without an argument the file goes to the
//! directory for temporary files.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const WIDTH: usize = 600;
const HEIGHT: usize = 400;
const MOST: u32 = 200;

/// How many steps it takes the point to escape.
fn escape(re: f64, im: f64) -> u32 {
    let (mut x, mut y, mut steps) = (0.0_f64, 0.0_f64, 0);
    while x * x + y * y <= 4.0 && steps < MOST {
        (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
        steps += 1;
    }
    steps
}

fn shade(row: usize, column: usize) -> u8 {
    let steps = escape(column as f64 / 200.0 - 2.2, row as f64 / 200.0 - 1.0);
    if steps == MOST { 0 } else { 255 - (steps % 32 * 8) as u8 }
}

fn draw() -> Vec<u8> {
    let mut pixels = vec![0; WIDTH * HEIGHT];
    gorun::scope(|s| {
        for (row, line) in pixels.chunks_mut(WIDTH).enumerate() {
            s.go(move || line.iter_mut().enumerate().for_each(|(column, pixel)| *pixel = shade(row, column)));
        }
    });
    pixels
}

fn write(path: &Path, pixels: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let file = BufWriter::new(std::fs::File::create(path)?);
    let mut encoder = png::Encoder::new(file, WIDTH as u32, HEIGHT as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(())
}

fn main() -> ExitCode {
    let path =
        std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("gorun-mandelbrot.png"), PathBuf::from);
    let pixels = gorun::run(draw);
    for (at, pixel) in pixels.iter().enumerate().step_by(977) {
        assert_eq!(*pixel, shade(at / WIDTH, at % WIDTH));
    }
    if let Err(error) = write(&path, &pixels) {
        eprintln!("mandelbrot: {}: {error}", path.display());
        return ExitCode::from(2);
    }
    println!(
        "{WIDTH} x {HEIGHT} points, {} of them in the set: {}",
        pixels.iter().filter(|p| **p == 0).count(),
        path.display()
    );
    ExitCode::SUCCESS
}
