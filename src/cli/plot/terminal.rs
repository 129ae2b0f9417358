//! Pictures of characters.

use std::fmt::Write;
use std::ops::Range;

use rhumb::runtime::{KeyTileClass, QueryTileRow};
use textplots::{Chart, Plot, Shape};

use super::picture::{Curves, Map, Picture, Tiles};

/// Dots of a chart; a character has two across and four down.
const DOTS: (u32, u32) = (144, 72);
/// The most characters of a map across and down.
const MOST: (usize, usize) = (72, 36);
/// Characters of rising numbers.
const SHADES: [char; 10] = ['.', ':', '-', '=', '+', '*', 'x', '#', '%', '@'];
/// The most curves that are told apart below a chart.
const LISTED: usize = 16;

/// A picture as text.
pub(super) fn text(picture: &Picture) -> String {
    match picture {
        Picture::Curves(picture) => curves(picture),
        Picture::Map(picture) => map(picture),
        Picture::Tiles(picture) => tiles(picture),
    }
}

fn curves(picture: &Curves) -> String {
    let ((from, to), (least, most)) = picture.ranges();
    let runs = picture.curves.iter().flat_map(super::picture::Curve::runs);
    let runs: Vec<Vec<(f32, f32)>> =
        runs.map(|run| run.iter().map(|(x, y)| (*x as f32, *y as f32)).collect()).collect();
    let shapes: Vec<Shape<'_>> = runs.iter().map(|run| Shape::Lines(run)).collect();
    let mut chart = Chart::new_with_y_range(DOTS.0, DOTS.1, from as f32, to as f32, least as f32, most as f32);
    let mut drawn = &mut chart;
    for shape in &shapes {
        drawn = drawn.lineplot(shape);
    }
    drawn.borders();
    drawn.figures();
    let lines = drawn.to_string();
    let mut text = format!("{}\n{} by {}\n", picture.title, picture.y, picture.x);
    for line in lines.lines() {
        // Blank characters of the chart, at the ends of lines.
        let _ = writeln!(text, "{}", line.trim_end_matches(['\u{2800}', ' ']));
    }
    let step = picture.curves.len().div_ceil(LISTED).max(1);
    for curve in picture.curves.iter().step_by(step) {
        let ends = (curve.points.first(), curve.points.last());
        if let (Some(first), Some(last)) = ends {
            let _ =
                writeln!(text, "{}: {} at {}, {} at {}", curve.label, number(first.1), first.0, number(last.1), last.0);
        }
    }
    text
}

/// A number with four digits.
fn number(x: f64) -> String {
    match x {
        f64::NEG_INFINITY => "hidden".to_owned(),
        // No sign before 0.
        0.0 => "0".to_owned(),
        x if x.abs() >= 1e5 || x.abs() < 1e-3 => format!("{x:.3e}"),
        x => format!("{x:.4}"),
    }
}

/// The cells of a picture that a character stands for: first and end.
fn part(index: usize, of: usize, cells: usize) -> (usize, usize) {
    (index * cells / of, ((index + 1) * cells).div_ceil(of))
}

fn map(picture: &Map) -> String {
    let [rows, columns] = picture.shape;
    let (height, width) = (rows.min(MOST.1), columns.min(MOST.0));
    let (least, most) = picture.range().unwrap_or((0.0, 1.0));
    let shade = |x: f64| SHADES[(((x - least) / (most - least) * SHADES.len() as f64) as usize).min(SHADES.len() - 1)];
    let [row, column] = picture.axes;
    let mut text = format!("{}\n{} by {row} (down) and {column} (across)\n", picture.title, picture.of);
    for y in 0..height {
        let rows = part(y, height, rows);
        let line: String = (0..width)
            .map(|x| {
                let columns = part(x, width, columns);
                let cells = (rows.0..rows.1).flat_map(|row| (columns.0..columns.1).map(move |column| (row, column)));
                let seen: Vec<f64> =
                    cells.map(|(row, column)| picture.at(row, column)).filter(|x| x.is_finite()).collect();
                let is_marked = |[row, column]: [usize; 2]| {
                    (rows.0..rows.1).contains(&row) && (columns.0..columns.1).contains(&column)
                };
                match seen.len() {
                    _ if picture.marked.is_some_and(is_marked) => 'Q',
                    0 => ' ',
                    count => shade(seen.iter().sum::<f64>() / count as f64),
                }
            })
            .collect();
        let _ = writeln!(text, "|{line}|");
    }
    let (darkest, lightest) = (SHADES[SHADES.len() - 1], SHADES[0]);
    let _ = write!(text, "{lightest} {}  {darkest} {}", number(least), number(most));
    if picture.values.iter().any(|x| !x.is_finite()) {
        text.push_str("  blank: hidden");
    }
    if picture.marked.is_some() {
        text.push_str("  Q: the query");
    }
    text.push('\n');
    text
}

fn sign(class: KeyTileClass) -> char {
    match class {
        KeyTileClass::Skipped => '.',
        KeyTileClass::Pruned => '~',
        KeyTileClass::Full => '#',
        KeyTileClass::Masked => '/',
    }
}

/// How many of some numbers, first and end, others are too.
fn common((from, to): (usize, usize), other: &Range<usize>) -> usize {
    to.min(other.end).saturating_sub(from.max(other.start))
}

/// The class that most pairs of some keys have with the queries of some rows, of which so many count; the costlier of two that have as many.
fn class(rows: &[(&QueryTileRow, usize)], keys: (usize, usize)) -> Option<KeyTileClass> {
    let of_row = |(row, queries): &(&QueryTileRow, usize), class: KeyTileClass| -> usize {
        let tiles = row.tiles.iter().filter(|tile| tile.class == class);
        queries * tiles.map(|tile| common(keys, &tile.keys)).sum::<usize>()
    };
    let pairs = |class: KeyTileClass| -> usize { rows.iter().map(|row| of_row(row, class)).sum() };
    let counted = KeyTileClass::ALL.into_iter().map(|class| (pairs(class), class));
    counted.filter(|(pairs, _)| *pairs > 0).max().map(|(_, class)| class)
}

fn tiles(picture: &Tiles) -> String {
    let Tiles { title, map, unit } = picture;
    let mut text = format!("{title}\nqueries (down) by keys (across)\n");
    if let Some(unit) = map.units().get(*unit) {
        let height = unit.rows.len().min(MOST.1);
        let width = map.keys().div_ceil(map.key_tile().div_ceil(2).max(1)).min(MOST.0);
        for y in 0..height {
            let queries = part(y, height, map.queries());
            let rows = unit.rows.iter().map(|row| (row, common(queries, &row.queries)));
            let rows: Vec<_> = rows.filter(|(_, count)| *count > 0).collect();
            let signs = (0..width).map(|x| class(&rows, part(x, width, map.keys())).map_or(' ', sign));
            let _ = writeln!(text, "|{}|", signs.collect::<String>());
        }
    }
    for class in KeyTileClass::ALL {
        let _ = writeln!(text, "{} {}", sign(class), picture.legend(class));
    }
    text
}
