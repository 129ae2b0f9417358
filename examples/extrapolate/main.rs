//! How far do position schemes carry a language model past the length it was trained on?
//!
//! Two small byte-level transformers, one trained with RoPE and one with ALiBi on 256 tokens, read held-out text in windows of 256 to 4096
//! tokens. All attention is rhumb's, straight on the projections; the schemes that rescale positions or slopes run the same weights.
//! Prints the loss of each scheme at each length, and which claims about them reproduce; fails if a loss is not the reference's, where there
//! is one (`examples/data/README.md`).
//!
//! `cargo run --release --example extrapolate`, or with `-- --quick` for a sixteenth of the text.

mod model;
#[path = "../support/options.rs"]
mod options;
mod schemes;
#[path = "../support/transformer.rs"]
mod transformer;

use std::error::Error;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use rhumb::prelude::*;
use schemes::{SCHEMES, Scheme, claims};
use textplots::{Chart, LabelBuilder, LabelFormat, Plot, Shape};
use transformer::Model;

const CONTEXTS: [usize; 5] = [256, 512, 1024, 2048, 4096];
/// Bytes that are predicted at each context.
const BYTES: usize = 131_072;
/// How far a loss may be from the reference's.
const TOLERANCE: f64 = 0.002;
/// Tokens of one forward pass, whatever the context.
const BATCH: usize = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let quick = options::quick()?;
    let bytes = if quick { BYTES / 16 } else { BYTES };
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data");
    let text =
        std::fs::read(format!("{data}/validation.txt")).map_err(|error| format!("{data}/validation.txt: {error}"))?;
    let text = text.get(..=bytes).ok_or("validation.txt is cut short")?;
    let models =
        [Model::load(&format!("{data}/rope.safetensors"))?, Model::load(&format!("{data}/alibi.safetensors"))?];
    let engine = Engine::host()?;
    println!("{bytes} bytes, contexts {CONTEXTS:?}, {}, {} threads\n", engine.target(), engine.threads());

    let start = Instant::now();
    let losses = losses(&engine, &models, text)?;

    table("Loss, nats per byte", |scheme, column| format!("{:.4}", losses[scheme][column]));
    charts(&losses);
    let stats = engine.cache_stats();
    let compiled = stats.compile_time.as_secs_f64() * 1e3;
    println!("{:.0} s, {} kernels compiled in {compiled:.0} ms", start.elapsed().as_secs_f64(), stats.misses);
    if quick {
        println!("--quick reads a part of the text: these figures are not comparable with the reference.");
        return Ok(());
    }

    let deviation = |scheme: usize, column: usize| Some(losses[scheme][column] - SCHEMES[scheme].reference[column]?);
    table("\nDeviation from the reference", |scheme, column| {
        deviation(scheme, column).map_or_else(|| "-".to_owned(), |off| format!("{off:+.4}"))
    });
    let largest = largest(deviation)?;
    println!("At most {largest:.5} off; {TOLERANCE} is allowed.\n");
    println!("What is said of these schemes, on these two models:");
    for (claim, holds) in claims(&losses) {
        println!("  {} {claim}", if holds { "reproduces:        " } else { "does not reproduce:" });
    }
    Ok(())
}

type Losses = [[f64; CONTEXTS.len()]; SCHEMES.len()];

/// The loss of each scheme at each context, over a text whose last byte is predicted alone.
fn losses(engine: &Engine, models: &[Model; 2], text: &[u8]) -> Result<Losses, Box<dyn Error>> {
    let bytes = text.len() - 1;
    let progress = ProgressBar::new((SCHEMES.len() * CONTEXTS.len() * bytes) as u64);
    progress.set_style(ProgressStyle::with_template("{msg:36} {wide_bar} {percent:>3} %  {eta:>5} left")?);
    let mut losses = [[0.0; CONTEXTS.len()]; SCHEMES.len()];
    for (scheme, row) in SCHEMES.iter().zip(&mut losses) {
        for (&context, loss) in CONTEXTS.iter().zip(row) {
            progress.set_message(format!("{}, {context} tokens", scheme.name));
            // Schemes that do not depend on the context give the same graph, and the engine the kernel it has.
            let kernel = engine.compile(&(scheme.attention)(context).build()?)?;
            let model = &models[usize::from(scheme.alibi)];
            let mut sum = 0.0;
            for first in (0..bytes).step_by(BATCH) {
                sum += model.loss(&kernel, &text[first..=first + BATCH], context)?;
                progress.inc(BATCH as u64);
            }
            *loss = sum / bytes as f64;
        }
    }
    progress.finish_and_clear();
    Ok(losses)
}

/// The largest deviation from the reference, if all are within the tolerance.
fn largest(deviation: impl Fn(usize, usize) -> Option<f64>) -> Result<f64, Box<dyn Error>> {
    let mut largest: f64 = 0.0;
    for (s, scheme) in SCHEMES.iter().enumerate() {
        for (c, context) in CONTEXTS.iter().enumerate() {
            let Some(off) = deviation(s, c).map(f64::abs) else { continue };
            // A NaN is off, too.
            if off.is_nan() || off > TOLERANCE {
                let name = scheme.name;
                return Err(
                    format!("{name} at {context} tokens is {off:.4} off; at most {TOLERANCE} was expected").into()
                );
            }
            largest = largest.max(off);
        }
    }
    Ok(largest)
}

/// Prints a row for each scheme and a column for each context.
fn table(title: &str, cell: impl Fn(usize, usize) -> String) {
    let head: String = CONTEXTS.iter().map(|context| format!("{context:>9}")).collect();
    println!("{title:46}{head}");
    for (s, Scheme { name, .. }) in SCHEMES.iter().enumerate() {
        let cells: String = (0..CONTEXTS.len()).map(|column| format!("{:>9}", cell(s, column))).collect();
        println!("  {name:44}{cells}");
    }
}

/// Prints a small chart for each scheme, three abreast, all to one scale.
fn charts(losses: &[[f64; CONTEXTS.len()]]) {
    const DOTS: (u32, u32) = (56, 40);
    let (low, high) = (1.0, 4.5);
    println!();
    for (row, schemes) in SCHEMES.chunks(3).enumerate() {
        let drawn = schemes.iter().zip(&losses[3 * row..]).map(|(scheme, losses)| {
            let points: Vec<(f32, f32)> =
                CONTEXTS.iter().zip(losses).map(|(context, loss)| ((*context as f32).log2(), *loss as f32)).collect();
            let shape = Shape::Lines(&points);
            let mut chart = Chart::new_with_y_range(DOTS.0, DOTS.1, 8.0, 12.0, low, high);
            let chart =
                chart.lineplot(&shape).x_label_format(LabelFormat::Custom(Box::new(|x| format!("{:.0}", x.exp2()))));
            chart.borders();
            chart.figures();
            let lines = chart.to_string();
            let title = format!(" {}", scheme.short);
            std::iter::once(title).chain(lines.lines().map(str::to_owned)).collect::<Vec<_>>()
        });
        let drawn: Vec<Vec<String>> = drawn.collect();
        for line in 0..drawn.iter().map(Vec::len).max().unwrap_or(0) {
            let cells = drawn.iter().map(|chart| chart.get(line).map_or("", String::as_str));
            let text: String = cells.map(|cell| format!("{cell:36}")).collect();
            println!("{}", text.trim_end());
        }
    }
    println!();
}
