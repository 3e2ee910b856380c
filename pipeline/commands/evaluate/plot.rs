//! Plots of an evaluation, as SVG.

use std::path::Path;

use perennial_operators::Failure;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor;

use super::figures::{Matrix, over_time};
use super::findings::{EvaluationReport, Method};
use crate::error::Error;

/// A palette that people with colour vision deficiencies can tell apart (Okabe & Ito 2008).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(120, 120, 120),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// Width and height of a matrix with its title.
const PANEL: u32 = 460;
/// Cells of a matrix whose values are written out.
const WRITTEN: usize = 12;

/// Of all texts but the titles.
const FONT: (&str, u32) = ("sans-serif", 16);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Failure>;

/// Writes `matrix.svg` and `accuracy.svg`, or `r2.svg`, to a folder.
pub fn write(findings: &EvaluationReport, folder: &Path) -> Result<(), Error> {
    draw(&folder.join("matrix.svg"), size(findings), |area| {
        matrices(area, findings)
    })?;
    let file = format!("{}.svg", findings.measured.key());
    draw(&folder.join(file), (900, 480), |area| {
        over_stages(area, findings)
    })
}

/// The matrices stand side by side.
fn size(findings: &EvaluationReport) -> (u32, u32) {
    (PANEL * findings.methods.len() as u32, PANEL)
}

fn draw(file: &Path, size: (u32, u32), plot: impl FnOnce(&Area<'_>) -> Drawn) -> Result<(), Error> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)
            .map_err(|error| Error::Failed(error.into()))?;
        plot(&area).map_err(Error::Failed)?;
        area.present()
            .map_err(|error| Error::Failed(error.into()))?;
    }
    std::fs::write(file, text).map_err(|error| Error::File(file.into(), error))
}

/// What is measured on each task after each stage, of all methods.
fn matrices(area: &Area<'_>, findings: &EvaluationReport) -> Drawn {
    let panels = area.split_evenly((1, findings.methods.len()));
    let all = || {
        findings
            .methods
            .iter()
            .flat_map(|method| method.matrix.iter().flatten())
    };
    let range = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
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
        // The first stage is on top, as in a matrix.
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

/// The cells of a matrix: row counted from below, column, value.
fn cells(matrix: &Matrix) -> impl Iterator<Item = (usize, usize, f64)> {
    let rows = matrix.iter().enumerate();
    rows.flat_map(|(stage, row)| {
        let row_number = matrix.len() - stage;
        let columns = row.iter().enumerate();
        columns.map(move |(task, value)| (row_number, task + 1, *value))
    })
}

/// How far a value is between the lowest and the highest.
fn place(value: f64, (low, high): (f64, f64)) -> f64 {
    ((value - low) / (high - low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
}

fn is_dark(value: f64, range: (f64, f64)) -> bool {
    place(value, range) > 0.55
}

/// White for the lowest, dark blue for the highest.
fn shade(value: f64, range: (f64, f64)) -> RGBColor {
    let mix = |from: f64, to: f64| (from + (to - from) * place(value, range)).round() as u8;
    RGBColor(mix(247.0, 8.0), mix(251.0, 69.0), mix(255.0, 148.0))
}

/// What is measured in the mean on the tasks learned so far, stage by stage.
fn over_stages(area: &Area<'_>, findings: &EvaluationReport) -> Drawn {
    let stages = findings.tasks.len();
    let lines: Vec<(&str, Vec<f64>)> = findings
        .methods
        .iter()
        .map(|method| (method.method.as_str(), over_time(&method.matrix).collect()))
        .collect();
    let all = || lines.iter().flat_map(|(_, values)| values);
    let low = all().copied().fold(1.0, f64::min) - 0.02;
    let high = all().copied().fold(0.0, f64::max) + 0.02;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(50)
        .y_label_area_size(75)
        .build_cartesian_2d(1.0..stages as f64, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(FONT)
        .x_desc("stage")
        .x_labels(stages.min(24))
        .x_label_formatter(&|stage| format!("{stage:.0}"))
        .y_desc(format!(
            "mean {} on the tasks so far",
            findings.measured.name()
        ))
        .y_label_formatter(&|value| format!("{value:.2}"))
        .draw()?;
    for ((name, values), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points = values.iter().enumerate();
        let points = points.map(|(stage, value)| ((stage + 1) as f64, *value));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(FONT)
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
