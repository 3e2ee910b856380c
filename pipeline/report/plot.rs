//! Charts as SVG files: the colours, fonts and line charts that all plots have in common.

use std::ops::Range;
use std::path::Path;

use perennial_operators::Failure;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::error::Error;

/// Colours of lines, in order. People with colour vision deficiencies can tell them apart (Okabe &
/// Ito 2008).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(120, 120, 120),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// Font of all texts but titles.
pub(crate) const FONT: (&str, u32) = ("sans-serif", 16);

/// An area to draw on.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Result of drawing.
pub(crate) type Drawn = Result<(), Failure>;

/// Writes an SVG file of `size` pixels, width and height, that `plot` draws.
pub(crate) fn write_svg(
    file: &Path,
    size: (u32, u32),
    plot: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<(), Error> {
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

/// An axis of a line chart.
pub(crate) struct Axis {
    /// What the axis shows.
    pub name: String,
    pub range: Range<f64>,
    /// Maximum number of labels.
    pub labels: usize,
    /// Decimals of labels.
    pub decimals: usize,
}

/// Lines over common axes, with a legend.
pub(crate) struct LineChart {
    pub x: Axis,
    pub y: Axis,
    /// Name and points of each line.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
    pub legend: SeriesLabelPosition,
}

impl LineChart {
    pub(crate) fn draw(&self, area: &Area<'_>) -> Drawn {
        let (x, y) = (&self.x, &self.y);
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(50)
            .y_label_area_size(75)
            .build_cartesian_2d(x.range.clone(), y.range.clone())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .label_style(FONT)
            .x_desc(&x.name)
            .x_labels(x.labels)
            .x_label_formatter(&|value| format!("{value:.*}", x.decimals))
            .y_desc(&y.name)
            .y_labels(y.labels)
            .y_label_formatter(&|value| format!("{value:.*}", y.decimals))
            .draw()?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            chart
                .draw_series(line)?
                .label(name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .label_font(FONT)
            .position(self.legend.clone())
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        Ok(())
    }
}
