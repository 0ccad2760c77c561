//! The plots: every row's values beside the best other runtime's, and the scaling curves.

use crate::bars::{BARS, Bar};
use crate::catalog::{CURVES, Curve, PEERS};
use crate::results::{Results, Table};
use plotters::prelude::*;
use std::path::Path;

type Outcome = Result<(), Box<dyn std::error::Error>>;

pub fn all(results: &Results, out: &Path) -> Result<(), String> {
    let table = Table(results);
    for procs in table.procs() {
        peers(&table, procs, &out.join(format!("peers-{procs}.svg"))).map_err(|error| error.to_string())?;
    }
    for curve in CURVES {
        curve_of(results, curve, &out.join(format!("{}.svg", curve.workload))).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn color((r, g, b): (u8, u8, u8)) -> RGBColor {
    RGBColor(r, g, b)
}

/// A row for each bar, a dot for each runtime: how many times the best other runtime's value.
fn peers(table: &Table<'_>, procs: usize, path: &Path) -> Outcome {
    let rows: Vec<&Bar> = BARS.iter().filter(|bar| bar.asks(procs) && bar.best(table, procs).is_some()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let height = 90 + 26 * rows.len() as u32;
    let root = SVGBackend::new(path, (960, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let caption = format!("Value by the best other runtime's, {procs} processor(s): left of 1 is ahead");
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, ("sans-serif", 16))
        .margin(12)
        .set_label_area_size(LabelAreaPosition::Left, 300)
        .set_label_area_size(LabelAreaPosition::Bottom, 28)
        .build_cartesian_2d((0.02f64..400.0).log_scale(), -0.5f64..rows.len() as f64 - 0.5)?;
    let name = |y: &f64| {
        let row = rows.len() as f64 - 1.0 - y;
        if (row - row.round()).abs() < 1e-6 && row >= -1e-6 {
            rows[row.round() as usize].title.to_owned()
        } else {
            String::new()
        }
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE)
        .y_labels(2 * rows.len() + 2)
        .y_label_formatter(&name)
        .x_label_formatter(&|x| format!("{x}"))
        .draw()?;
    chart.draw_series(std::iter::once(PathElement::new(vec![(1.0, -0.5), (1.0, rows.len() as f64 - 0.5)], BLACK)))?;
    for peer in PEERS.iter().rev() {
        let dots: Vec<(f64, f64)> = rows
            .iter()
            .enumerate()
            .filter_map(|(i, bar)| {
                let (_, best) = bar.best(table, procs)?;
                let ratio = bar.value(table, peer.name, procs)? / best;
                Some((ratio.clamp(0.022, 56.0), (rows.len() - 1 - i) as f64))
            })
            .collect();
        if dots.is_empty() {
            continue;
        }
        let (fill, size) = (color(peer.color).filled(), if peer.name == "gorun" { 6 } else { 4 });
        chart
            .draw_series(dots.into_iter().map(|dot| Circle::new(dot, size, fill)))?
            .label(peer.name)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, fill));
    }
    let mut legend = chart.configure_series_labels();
    legend
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}

fn curve_of(results: &Results, curve: &Curve, path: &Path) -> Outcome {
    let points = |peer: &str| {
        let cells =
            results.cells.iter().filter(|c| (&*c.peer, &*c.workload, &*c.metric) == (peer, curve.workload, "ns"));
        let mut all: Vec<(f64, f64)> = cells.map(|cell| (cell.n as f64, cell.median.max(1.0))).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    };
    let series: Vec<_> = PEERS.iter().map(|peer| (peer, points(peer.name))).filter(|(_, p)| !p.is_empty()).collect();
    let values = series.iter().flat_map(|(_, points)| points.iter().map(|point| point.1));
    let (low, high) = values.fold((f64::MAX, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
    if high == 0.0 {
        return Ok(());
    }
    let across = *curve.sizes.last().expect("sizes") as f64;
    let root = SVGBackend::new(path, (720, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{}, ns", curve.title), ("sans-serif", 16))
        .margin(12)
        .set_label_area_size(LabelAreaPosition::Left, 64)
        .set_label_area_size(LabelAreaPosition::Bottom, 36)
        .build_cartesian_2d((0.8..across * 1.2).log_scale(), (low / 1.5..high * 1.5).log_scale())?;
    let plain = |x: &f64| format!("{x}");
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE).bold_line_style(BLACK.mix(0.12));
    mesh.x_desc(curve.across).x_label_formatter(&plain).y_label_formatter(&plain).draw()?;
    for (peer, points) in series {
        let style = color(peer.color).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points, style).point_size(3))?
            .label(peer.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style));
    }
    let mut legend = chart.configure_series_labels();
    legend
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}
