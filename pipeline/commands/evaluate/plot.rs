//! Plots of an evaluation, as SVG.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor;

use super::figures::{Matrix, over_time};
use super::findings::{EvaluationReport, Method};
use crate::error::Error;
use crate::report::plot::{Area, Axis, Drawn, FONT, LineChart, write_svg};

/// Width and height of a matrix with its title, in pixels.
const PANEL: u32 = 460;
/// Maximum number of rows of a matrix whose values are written into its cells.
const WRITTEN: usize = 12;
/// Maximum number of labels of the axis of stages.
const STAGE_LABELS: usize = 24;

/// Writes `matrix.svg` and `accuracy.svg`, or `r2.svg`, to a folder.
pub(super) fn write(findings: &EvaluationReport, folder: &Path) -> Result<(), Error> {
    // The matrices stand side by side.
    let size = (PANEL * findings.methods.len() as u32, PANEL);
    write_svg(&folder.join("matrix.svg"), size, |area| {
        matrices(area, findings)
    })?;
    let file = format!("{}.svg", findings.measured.key());
    write_svg(&folder.join(file), (900, 480), |area| {
        over_stages(findings).draw(area)
    })
}

/// The matrices of all methods, in common shades.
fn matrices(area: &Area<'_>, findings: &EvaluationReport) -> Drawn {
    let panels = area.split_evenly((1, findings.methods.len()));
    let rows = findings.methods.iter().flat_map(|method| &method.matrix);
    let empty = (f64::INFINITY, f64::NEG_INFINITY);
    let range = rows.flatten().fold(empty, |(low, high), value| {
        (low.min(*value), high.max(*value))
    });
    for (panel, method) in panels.iter().zip(&findings.methods) {
        matrix(panel, method, range)?;
    }
    Ok(())
}

fn matrix(area: &Area<'_>, method: &Method, range: (f64, f64)) -> Drawn {
    let Method { method, matrix, .. } = method;
    let tasks = matrix.len();
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(method, ("sans-serif", 20))
        .x_label_area_size(50)
        .y_label_area_size(55)
        // The first stage is at the top, as in a matrix.
        .build_cartesian_2d((1..tasks).into_segmented(), (1..tasks).into_segmented())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .label_style(FONT)
        .x_desc("task")
        .y_desc("after stage")
        .y_label_formatter(&|place| match place {
            SegmentValue::CenterOf(row) => (tasks + 1 - row).to_string(),
            _ => String::new(),
        })
        .draw()?;
    chart.draw_series(cells(matrix).map(|(row, column, value)| {
        let corners = [
            (SegmentValue::Exact(column), SegmentValue::Exact(row)),
            (
                SegmentValue::Exact(column + 1),
                SegmentValue::Exact(row + 1),
            ),
        ];
        Rectangle::new(corners, shade(value, range).filled())
    }))?;
    if tasks <= WRITTEN {
        chart.draw_series(cells(matrix).map(|(row, column, value)| {
            let place = (SegmentValue::CenterOf(column), SegmentValue::CenterOf(row));
            let colour = if is_dark(value, range) {
                &WHITE
            } else {
                &BLACK
            };
            let style = FONT.into_font().color(colour);
            let centred = style.pos(text_anchor::Pos::new(
                text_anchor::HPos::Center,
                text_anchor::VPos::Center,
            ));
            Text::new(format!("{value:.2}"), place, centred)
        }))?;
    }
    Ok(())
}

/// Cells of a matrix: row, counted from the bottom, column and value.
fn cells(matrix: &Matrix) -> impl Iterator<Item = (usize, usize, f64)> {
    let rows = matrix.iter().enumerate();
    rows.flat_map(|(stage, row)| {
        let row_number = matrix.len() - stage;
        let columns = row.iter().enumerate();
        columns.map(move |(task, value)| (row_number, task + 1, *value))
    })
}

/// Position of a value in a range, from 0 to 1.
fn position(value: f64, (low, high): (f64, f64)) -> f64 {
    ((value - low) / (high - low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
}

fn is_dark(value: f64, range: (f64, f64)) -> bool {
    position(value, range) > 0.55
}

/// Colour of a value: white for the lowest of a range, dark blue for the highest.
fn shade(value: f64, range: (f64, f64)) -> RGBColor {
    let mix = |from: f64, to: f64| (from + (to - from) * position(value, range)).round() as u8;
    RGBColor(mix(247.0, 8.0), mix(251.0, 69.0), mix(255.0, 148.0))
}

/// The mean of the measure on the tasks learned so far, stage by stage.
fn over_stages(findings: &EvaluationReport) -> LineChart {
    let stages = findings.tasks.len();
    let lines: Vec<(String, Vec<(f64, f64)>)> = findings
        .methods
        .iter()
        .map(|method| {
            let values = over_time(&method.matrix).enumerate();
            let points = values.map(|(stage, value)| ((stage + 1) as f64, value));
            (method.method.clone(), points.collect())
        })
        .collect();
    let values = || {
        let points = lines.iter().flat_map(|(_, points)| points);
        points.map(|(_, value)| *value)
    };
    let low = values().fold(1.0, f64::min) - 0.02;
    let high = values().fold(0.0, f64::max) + 0.02;
    LineChart {
        x: Axis {
            name: "stage".to_string(),
            range: 1.0..stages as f64,
            labels: stages.min(STAGE_LABELS),
            decimals: 0,
        },
        y: Axis {
            name: format!("mean {} on the tasks so far", findings.measured.name()),
            range: low..high,
            labels: 11,
            decimals: 2,
        },
        lines,
        legend: SeriesLabelPosition::LowerRight,
    }
}
