//! What is served, how often it is run, and what is printed of it.

use std::error::Error;

use rhumb::prelude::Engine;

use crate::paged::{PAGE, Paged, Usage};
use crate::position::Position;
use crate::step::{Generated, Times, generate};
use crate::transformer::Model;

/// Tokens of each prompt. The longest are taken in chunks.
pub(crate) const PROMPTS: [usize; 8] = [5, 17, 30, 48, 64, 81, 100, 150];
pub(crate) const STEPS: usize = 256;
/// Runs of each loop. Of each step the fastest counts.
pub(crate) const RUNS: usize = 3;
/// How far logits may be from those of another way to compute them.
pub(crate) const TOLERANCE: f32 = 1e-3;

/// A model, and what it is to do.
pub(crate) struct Task<'a> {
    pub(crate) model: Model,
    pub(crate) position: Position,
    pub(crate) prompts: Vec<&'a [u8]>,
    pub(crate) steps: usize,
}

impl<'a> Task<'a> {
    /// The model of a position scheme from the folder of the models, with prompts from a text.
    pub(crate) fn load(
        folder: &str,
        text: &'a [u8],
        position: Position,
        steps: usize,
    ) -> Result<Task<'a>, Box<dyn Error>> {
        let model = Model::load(&format!("{folder}/{}.safetensors", position.name()))?;
        Ok(Task { model, position, prompts: prompts(text)?, steps })
    }

    /// Prompts by the number of their sequence.
    pub(crate) fn numbered(&self) -> Vec<(usize, &'a [u8])> {
        self.prompts.iter().copied().enumerate().collect()
    }

    /// Tokens that the longest sequence comes to.
    pub(crate) fn longest(&self) -> usize {
        PROMPTS[PROMPTS.len() - 1] + self.steps
    }

    /// Caches with pages for these prompts and what is generated behind them, each prompt for so many sequences.
    pub(crate) fn paged(&self, engine: &Engine, prompts: &[&[u8]], each: usize) -> Result<Paged, Box<dyn Error>> {
        let pages: usize = prompts.iter().map(|prompt| (prompt.len() + self.steps).div_ceil(PAGE)).sum();
        Paged::new(engine, self.position, self.model.layers.len(), pages * each)
    }

    /// All sequences at once, and the pages that they have at the end.
    pub(crate) fn together(&self, engine: &Engine, tick: &dyn Fn()) -> Result<(Generated, Usage), Box<dyn Error>> {
        let mut paged = self.paged(engine, &self.prompts, 1)?;
        let mut numbered = Vec::new();
        for prompt in &self.prompts {
            numbered.push((paged.start()?, *prompt));
        }
        let made = generate(&self.model, &mut paged, &numbered, self.steps, None, tick)?;
        Ok((made, paged.usage()?))
    }
}

/// The prompts, from places all over the text, each from the beginning of a sentence on.
fn prompts(text: &[u8]) -> Result<Vec<&[u8]>, Box<dyn Error>> {
    let prompt = |(number, len): (usize, &usize)| {
        let text = text.get(number * text.len() / PROMPTS.len()..)?;
        let start = text.windows(2).position(|bytes| bytes == b". ")? + 2;
        text.get(start..start + len)
    };
    PROMPTS.iter().enumerate().map(prompt).collect::<Option<_>>().ok_or("validation.txt is cut short".into())
}

/// Runs a loop some times, and gives of each step the fastest. The first run compiles what is compiled on first use.
pub(crate) fn fastest(mut run: impl FnMut() -> Result<Generated, Box<dyn Error>>) -> Result<Generated, Box<dyn Error>> {
    let mut made = run()?;
    for _ in 1..RUNS {
        let again = run()?;
        if again.tokens != made.tokens {
            return Err("two runs of one loop have other tokens".into());
        }
        made.keep_faster(&again);
    }
    Ok(made)
}

/// The largest difference of the logits of two runs; an error if it is above what is allowed.
pub(crate) fn check(found: &[Vec<Vec<f32>>], expected: &[Vec<Vec<f32>>], of: &str) -> Result<f32, Box<dyn Error>> {
    let mut largest: f32 = 0.0;
    for (sequence, (found, expected)) in found.iter().zip(expected).enumerate() {
        for (step, (found, expected)) in found.iter().zip(expected).enumerate() {
            let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // A NaN compares with nothing, so it is looked for by itself.
            if off > TOLERANCE || found.iter().chain(expected).any(|x| !x.is_finite()) {
                let place = format!("sequence {sequence}, step {step}");
                return Err(format!("{place}: logits are {off:e} from those {of}; {TOLERANCE:e} is allowed").into());
            }
            largest = largest.max(off);
        }
    }
    let steps = |all: &[Vec<Vec<f32>>]| all.iter().map(Vec::len).collect::<Vec<_>>();
    if steps(found) == steps(expected) { Ok(largest) } else { Err(format!("other steps than those {of}").into()) }
}

/// The headings of [`print_row`].
pub(crate) fn print_head(name: &str) {
    println!("\n{name:28}{:>18}{:>18}{:>22}{:>22}", "prefill", "decode", "attention of prefill", "of decode");
}

/// Tokens a second, and the share of attention.
pub(crate) fn print_row(name: &str, Generated { prefill, decode, .. }: &Generated) {
    let rate = |times: &Times| times.tokens as f64 / times.total();
    let share = |times: &Times| 100.0 * times.attention() / times.total();
    println!(
        "  {name:30}{:8.0} tokens/s{:9.0} tokens/s{:20.0} %{:20.0} %",
        rate(prefill),
        rate(decode),
        share(prefill),
        share(decode)
    );
}
