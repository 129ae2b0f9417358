//! Pictures of lines and colours, as SVG and PNG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use rhumb::runtime::{KeyTileClass, TileUnit};

use super::super::error::CliError;
use super::picture::{Curve, Curves, Map, Picture, Tiles};
use super::sizes::Size;

const FONT: &str = "sans-serif";
/// The font of numbers along axes.
const SMALL: (&str, i32) = (FONT, 12);
/// The most curves that a legend tells apart.
const LISTED: usize = 16;
/// Steps of a scale of colours.
const SCALE: i32 = 48;
/// What is hidden.
const HIDDEN: RGBColor = RGBColor(225, 225, 225);

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::Draw { reason: error.to_string() }
}

/// Text is measured by an embedded font, and in bitmaps drawn with it: the same picture on every machine.
fn with_font() -> Result<(), CliError> {
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::HACK_REGULAR)
        .map_err(|_| failed("the embedded font can't be read"))
}

/// The text of an SVG file.
pub(super) fn svg(picture: &Picture, size: Size) -> Result<String, CliError> {
    with_font()?;
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (size.width, size.height)).into_drawing_area();
    draw(picture, &area).map_err(failed)?;
    drop(area);
    Ok(text)
}

/// The bytes of a PNG file.
pub(super) fn png(picture: &Picture, size: Size) -> Result<Vec<u8>, CliError> {
    with_font()?;
    let Size { width, height } = size;
    let mut pixels = vec![0u8; 3 * width as usize * height as usize];
    let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
    draw(picture, &area).map_err(failed)?;
    drop(area);
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, width, height);
    encoder.set_color(::png::ColorType::Rgb);
    encoder.set_depth(::png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}

fn draw<DB: DrawingBackend>(picture: &Picture, area: &DrawingArea<DB, Shift>) -> DrawResult<(), DB> {
    area.fill(&WHITE)?;
    match picture {
        Picture::Curves(picture) => curves(picture, area)?,
        Picture::Map(picture) => map(picture, area)?,
        Picture::Tiles(picture) => tiles(picture, area)?,
    }
    area.present()
}

/// The size at which a line of text fits a width, up to `most`: letters of the font are 0.6 of its size wide.
fn fitting(text: &str, width: u32, most: f64) -> f64 {
    let letters = text.chars().count().max(1) as f64;
    (f64::from(width) / (0.62 * letters)).clamp(6.0, most)
}

/// The colour of one of some curves.
fn hue(index: usize, count: usize) -> HSLColor {
    HSLColor(0.75 * index as f64 / count.max(1) as f64, 0.85, 0.42)
}

fn curves<DB: DrawingBackend>(picture: &Curves, area: &DrawingArea<DB, Shift>) -> DrawResult<(), DB> {
    let ((from, to), (least, most)) = picture.ranges();
    let mut chart = ChartBuilder::on(area)
        .caption(&picture.title, (FONT, fitting(&picture.title, area.dim_in_pixel().0, 18.0)))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(from..to, least..most)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(SMALL)
        .x_desc(&picture.x)
        .y_desc(&picture.y)
        .draw()?;
    let count = picture.curves.len();
    let step = count.div_ceil(LISTED).max(1);
    for (index, curve) in picture.curves.iter().enumerate() {
        let colour = hue(index, count);
        let mut label = Some(&curve.label).filter(|_| index.is_multiple_of(step));
        for run in curve.runs() {
            // A point alone has no line.
            let alone = run.iter().filter(|_| run.len() == 1);
            chart.draw_series(alone.map(|point| Circle::new(*point, 2, colour.filled())))?;
            let drawn = chart.draw_series(LineSeries::new(run.iter().copied(), colour.stroke_width(2)))?;
            if let Some(label) = label.take() {
                drawn
                    .label(label)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
            }
        }
    }
    if count > 1 || picture.curves.iter().any(|curve| curve.label != "all heads") {
        chart
            .configure_series_labels()
            .position(legend_position(&picture.curves))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.4))
            .label_font(SMALL)
            .draw()?;
    }
    Ok(())
}

/// The lower left corner where curves fall, else the upper right.
fn legend_position(curves: &[Curve]) -> SeriesLabelPosition {
    let ends = |curve: &Curve| {
        let mut finite = curve.points.iter().map(|point| point.1).filter(|y| y.is_finite());
        let first = finite.next()?;
        Some(finite.next_back().unwrap_or(first) - first)
    };
    let total: f64 = curves.iter().filter_map(ends).sum();
    if total < 0.0 && curves.len() > 1 { SeriesLabelPosition::LowerLeft } else { SeriesLabelPosition::UpperRight }
}

/// The colour of a number.
fn shade(x: f64, (least, most): (f64, f64)) -> RGBColor {
    if !x.is_finite() {
        return HIDDEN;
    }
    // In steps, so that neighbours that differ little are drawn as one.
    let step = ((x - least) / (most - least) * f64::from(SCALE)).clamp(0.0, f64::from(SCALE)).round();
    ViridisRGB.get_color((step / f64::from(SCALE)) as f32)
}

/// Runs of equal colours along a row.
fn runs(colours: impl Iterator<Item = RGBColor>) -> Vec<(Range<i32>, RGBColor)> {
    let mut runs: Vec<(Range<i32>, RGBColor)> = Vec::new();
    for (column, colour) in (0..).zip(colours) {
        match runs.last_mut() {
            Some((columns, last)) if *last == colour => columns.end = column + 1,
            _ => runs.push((column..column + 1, colour)),
        }
    }
    runs
}

fn map<DB: DrawingBackend>(picture: &Map, area: &DrawingArea<DB, Shift>) -> DrawResult<(), DB> {
    let [rows, columns] = picture.shape.map(|length| i32::try_from(length).unwrap_or(i32::MAX));
    let range = picture.range().unwrap_or((0.0, 1.0));
    let (width, _) = area.dim_in_pixel();
    let (area, scale) = area.split_horizontally(width.saturating_sub(100));
    let [first_row, first_column] = picture.first;
    let mut chart = ChartBuilder::on(&area)
        .caption(&picture.title, (FONT, fitting(&picture.title, width.saturating_sub(100), 18.0)))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0..columns, rows..0)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .label_style(SMALL)
        .x_desc(picture.axes[1])
        .y_desc(picture.axes[0])
        .x_label_formatter(&|x| (*x as usize + first_column).to_string())
        .y_label_formatter(&|y| (*y as usize + first_row).to_string())
        .draw()?;
    for row in 0..rows {
        let colours = (0..columns).map(|column| shade(picture.at(row as usize, column as usize), range));
        let cells = runs(colours).into_iter();
        chart.draw_series(cells.map(|(columns, colour)| {
            Rectangle::new([(columns.start, row), (columns.end, row + 1)], colour.filled())
        }))?;
    }
    if let Some([row, column]) = picture.marked {
        let (x, y) = (column as i32, row as i32);
        let mark = Rectangle::new([(x, y), (x + 1, y + 1)], RED.stroke_width(2));
        chart.draw_series([mark])?;
    }
    scale_of_colours(picture.of, range, &scale)
}

fn scale_of_colours<DB: DrawingBackend>(
    of: &str,
    range: (f64, f64),
    area: &DrawingArea<DB, Shift>,
) -> DrawResult<(), DB> {
    let (least, most) = range;
    let mut chart = ChartBuilder::on(area)
        .margin_top(44)
        .margin_bottom(52)
        .margin_right(12)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..1.0, least..most)?;
    chart.configure_mesh().disable_mesh().disable_x_axis().label_style(SMALL).y_labels(6).y_desc(of).draw()?;
    let at = |step: i32| least + (most - least) * f64::from(step) / f64::from(SCALE);
    let steps = (0..SCALE).map(|step| {
        let (low, high) = (at(step), at(step + 1));
        Rectangle::new([(0.0, low), (1.0, high)], shade((low + high) / 2.0, range).filled())
    });
    chart.draw_series(steps)?;
    Ok(())
}

fn colour(class: KeyTileClass) -> RGBColor {
    match class {
        KeyTileClass::Skipped => RGBColor(236, 236, 236),
        KeyTileClass::Pruned => RGBColor(250, 214, 140),
        KeyTileClass::Full => RGBColor(66, 125, 181),
        KeyTileClass::Masked => RGBColor(204, 88, 72),
    }
}

fn tiles<DB: DrawingBackend>(picture: &Tiles, area: &DrawingArea<DB, Shift>) -> DrawResult<(), DB> {
    let Tiles { title, map, unit } = picture;
    let length = |length: usize| i32::try_from(length).unwrap_or(i32::MAX).max(1);
    let (width, height) = area.dim_in_pixel();
    let (area, legend) = area.split_vertically(height.saturating_sub(32));
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, fitting(title, width, 18.0)))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(0..length(map.keys()), length(map.queries())..0)?;
    chart.configure_mesh().disable_mesh().label_style(SMALL).x_desc("key").y_desc("query").draw()?;
    if let Some(unit) = map.units().get(*unit) {
        let all = (length(map.keys()), length(map.queries()));
        chart.draw_series([Rectangle::new([(0, 0), all], colour(KeyTileClass::Skipped).filled())])?;
        chart.draw_series(runs_of_tiles(unit))?;
        chart.draw_series(borders(unit))?;
    }
    let part = width.saturating_sub(24) / KeyTileClass::ALL.len() as u32;
    let fit = |size: f64, class| fitting(&picture.legend(class), part.saturating_sub(24), size);
    let size = KeyTileClass::ALL.into_iter().fold(12.0, fit);
    for (index, class) in (0..).zip(KeyTileClass::ALL) {
        let (x, text) = (16 + index * part as i32, picture.legend(class));
        legend.draw(&Rectangle::new([(x, 8), (x + 12, 20)], colour(class).filled()))?;
        legend.draw(&Text::new(text, (x + 18, 9), (FONT, size)))?;
    }
    Ok(())
}

fn at(place: usize) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}

/// Tiles of one class that follow one another, but for skipped ones.
fn runs_of_tiles(unit: &TileUnit) -> impl Iterator<Item = Rectangle<(i32, i32)>> {
    unit.rows.iter().flat_map(|row| {
        let runs = row.tiles.chunk_by(|a, b| a.class == b.class);
        let seen = runs.filter_map(|run| Some((run.first()?, run.last()?)));
        let seen = seen.filter(|(first, _)| first.class != KeyTileClass::Skipped);
        seen.map(|(first, last)| {
            let corners = [(at(first.keys.start), at(row.queries.start)), (at(last.keys.end), at(row.queries.end))];
            Rectangle::new(corners, colour(first.class).filled())
        })
    })
}

/// Lines between tiles, but for skipped ones.
fn borders(unit: &TileUnit) -> impl Iterator<Item = PathElement<(i32, i32)>> {
    let line = |a, b| PathElement::new([a, b], WHITE.mix(0.6).stroke_width(1));
    unit.rows.iter().flat_map(move |row| {
        let (top, bottom) = (at(row.queries.start), at(row.queries.end));
        let seen = || row.tiles.iter().filter(|tile| tile.class != KeyTileClass::Skipped);
        let ends = seen().next().zip(seen().next_back());
        let below = ends.map(|(first, last)| line((at(first.keys.start), bottom), (at(last.keys.end), bottom)));
        let beside = seen().map(|tile| at(tile.keys.start)).collect::<Vec<i32>>();
        beside.into_iter().map(move |x| line((x, top), (x, bottom))).chain(below)
    })
}
