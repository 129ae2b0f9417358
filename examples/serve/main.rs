//! Eight sequences served at once: their prompts are taken in, then each gets one token in every step. Keys and values lie in pages.
//!
//! The loop is that of an engine for language models, and small enough to be copied:
//!
//! 1. A step takes a *piece* of each of some sequences: a chunk of a prompt, or the one token that was chosen last. The rows of all pieces
//!    are packed one after the other, without padding, so that a layer is one product of matrices for all of them (`step.rs`).
//! 2. Each layer has a `KvCache`. The keys and values of a piece are appended to its sequence; where the model has RoPE, a kernel
//!    (`Attention::key_graph`) rotates the keys on the way in, once and for all, and the attention rotates the query alone
//!    (`Rope::query_only`). Before a step begins, `pages_needed` tells whether there are pages for it (`paged.rs`).
//! 3. `Kernel::batch` has a call for each sequence: its new rows as queries, and all that the cache has of it as keys and values. Queries are
//!    the last tokens of their sequence, so that positions need not be told. Chunks and single tokens are the same to the caller; each call
//!    takes the kernel that costs it least, and threads share the work of all.
//! 4. The last row of each piece gives the logits of the next token.
//!
//! Two answers to one prompt are a `fork`, which shares its pages.
//!
//! The models are the two of `examples/data/README.md`, one trained with ALiBi and one with RoPE. Prints tokens a second, the share of
//! attention, and the pages that the cache takes, beside the same loop with an attention by plain operations on matrices. Fails unless the
//! tokens are those that each sequence gets alone, and the logits are those of attention over whole sequences without a cache, and of the
//! plain operations.
//!
//! `cargo run --release --example serve`, or with `-- --quick` for an eighth of the steps.

mod paged;
mod plain;
mod position;
mod step;
#[path = "../support/transformer.rs"]
mod transformer;

use std::error::Error;

use indicatif::{ProgressBar, ProgressStyle};
use paged::{PAGE, Paged, Uncached, Usage};
use plain::Plain;
use position::Position;
use rhumb::prelude::*;
use step::{Generated, Pieces, Times, best, forward, generate};
use transformer::{DIM, Model};

/// Tokens of each prompt. The longest are taken in chunks.
const PROMPTS: [usize; 8] = [5, 17, 30, 48, 64, 81, 100, 150];
const STEPS: usize = 256;
/// Runs of each loop. Of each step the fastest counts.
const RUNS: usize = 3;
/// How far logits may be from those of another way to compute them.
const TOLERANCE: f32 = 1e-3;

/// A model, and what it is to do.
struct Bench<'a> {
    engine: &'a Engine,
    model: Model,
    position: Position,
    prompts: Vec<&'a [u8]>,
    steps: usize,
    progress: &'a ProgressBar,
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--quick") => true,
        Some(other) => return Err(format!("`{other}` is no option; there is `--quick`").into()),
    };
    let steps = if quick { STEPS / 8 } else { STEPS };
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data");
    let text =
        std::fs::read(format!("{data}/validation.txt")).map_err(|error| format!("{data}/validation.txt: {error}"))?;
    let engine = Engine::host()?;
    let (least, most) = (PROMPTS[0], PROMPTS[PROMPTS.len() - 1]);
    println!("{} prompts of {least} to {most} tokens, then {steps} steps of one token for each", PROMPTS.len());
    println!("pages of {PAGE} tokens, {}, {} threads", engine.target(), engine.threads());

    let progress = ProgressBar::new(0);
    progress.set_style(ProgressStyle::with_template("{msg:36} {wide_bar} {percent:>3} %  {eta:>5} left")?);
    for position in [Position::Alibi, Position::Rope] {
        let model = Model::load(&format!("{data}/{}.safetensors", position.name()))?;
        let prompts = prompts(&text)?;
        Bench { engine: &engine, model, position, prompts, steps, progress: &progress }.run()?;
    }
    Ok(())
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

impl Bench<'_> {
    /// Measures, checks and prints.
    fn run(&self) -> Result<(), Box<dyn Error>> {
        let name = self.position.name();
        let phase = |what: &str, sequences: usize| {
            self.progress.reset();
            self.progress.set_length((sequences * self.steps) as u64);
            self.progress.set_message(format!("{name}: {what}"));
        };
        phase("one sequence at a time", RUNS * PROMPTS.len());
        let alone = fastest(|| self.alone())?;
        phase("all at once", RUNS);
        let mut usage = Usage { used: 0, unshared: 0 };
        let together = fastest(|| {
            let (made, used) = self.together()?;
            usage = used;
            Ok(made)
        })?;
        phase("all at once by plain operations", RUNS);
        let plain = fastest(|| self.plain(&together.tokens))?;
        self.progress.finish_and_clear();

        if together.tokens != alone.tokens {
            return Err(format!("{name}: sequences have other tokens together than alone").into());
        }
        let from_whole = self.check(&together, &self.whole(&together)?, "of whole sequences without a cache")?;
        let from_plain = self.check(&together, &plain.logits, "of plain operations")?;

        println!("\n{name:28}{:>18}{:>18}{:>22}{:>22}", "prefill", "decode", "attention of prefill", "of decode");
        print_row("rhumb, all at once", &together);
        print_row("rhumb, one at a time", &alone);
        print_row("plain operations, all at once", &plain);
        let prefill = plain.prefill.attention() / together.prefill.attention();
        let decode = plain.decode.attention() / together.decode.attention();
        println!(
            "  Attention by plain operations takes {prefill:.1} times as long in prefill, {decode:.1} times in decode."
        );
        self.print_memory(&usage);
        println!(
            "  Tokens are those of each sequence alone. Logits are at most {from_whole:.0e} from those of whole sequences without a"
        );
        println!("  cache, and {from_plain:.0e} from those of plain operations; {TOLERANCE:.0e} is allowed.");
        self.continuations(&together)
    }

    fn paged(&self, prompts: &[&[u8]], sequences: usize) -> Result<Paged, Box<dyn Error>> {
        let pages = prompts.iter().map(|prompt| (prompt.len() + self.steps + 1).div_ceil(PAGE)).sum::<usize>();
        Paged::new(self.engine, self.position, self.model.layers.len(), pages * sequences)
    }

    fn tick(&self) {
        self.progress.inc(1);
    }

    /// All sequences at once, and the pages that they have at the end.
    fn together(&self) -> Result<(Generated, Usage), Box<dyn Error>> {
        let mut paged = self.paged(&self.prompts, 1)?;
        let mut numbered = Vec::new();
        for prompt in &self.prompts {
            numbered.push((paged.start()?, *prompt));
        }
        let made = generate(&self.model, &mut paged, &numbered, self.steps, None, &|| self.tick())?;
        Ok((made, paged.usage()?))
    }

    /// Each sequence by itself, one after the other.
    fn alone(&self) -> Result<Generated, Box<dyn Error>> {
        let mut all = Generated::default();
        for prompt in &self.prompts {
            let mut paged = self.paged(&[prompt], 1)?;
            let numbered = [(paged.start()?, *prompt)];
            all.add(generate(&self.model, &mut paged, &numbered, self.steps, None, &|| self.tick())?);
        }
        Ok(all)
    }

    /// The same loop on the same tokens by plain operations.
    fn plain(&self, tokens: &[Vec<u8>]) -> Result<Generated, Box<dyn Error>> {
        let longest = PROMPTS[PROMPTS.len() - 1] + self.steps + 1;
        let mut plain = Plain::new(self.position, self.model.layers.len(), self.prompts.len(), longest);
        let numbered: Vec<(usize, &[u8])> = self.prompts.iter().copied().enumerate().collect();
        generate(&self.model, &mut plain, &numbered, self.steps, Some(tokens), &|| self.tick())
    }

    /// The logits of all generated tokens, computed anew by one pass over each whole sequence.
    fn whole(&self, made: &Generated) -> Result<Vec<Vec<Vec<f32>>>, Box<dyn Error>> {
        let mut uncached = Uncached(self.engine.compile(&self.position.over_keys().build()?)?);
        let mut all = Vec::new();
        for (prompt, tokens) in self.prompts.iter().zip(&made.tokens) {
            let mut pieces = Pieces::new();
            pieces.add(0, &[prompt, &tokens[..self.steps]].concat());
            let (stream, _) = forward(&self.model, &mut uncached, &pieces)?;
            let logits = self.model.logits(&stream.view());
            all.push(logits.rows().into_iter().skip(prompt.len() - 1).map(|row| row.to_vec()).collect());
        }
        Ok(all)
    }

    /// The largest difference of logits; an error if it is above what is allowed.
    fn check(&self, made: &Generated, expected: &[Vec<Vec<f32>>], of: &str) -> Result<f32, Box<dyn Error>> {
        let name = self.position.name();
        let mut largest: f32 = 0.0;
        for (sequence, (made, expected)) in made.logits.iter().zip(expected).enumerate() {
            if made.len() != self.steps + 1 || expected.len() != made.len() {
                return Err(format!("{name}: sequence {sequence} has logits of {} steps", made.len()).into());
            }
            for (step, (made, expected)) in made.iter().zip(expected).enumerate() {
                let off = made.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // A NaN compares with nothing, so it is looked for by itself.
                if off > TOLERANCE || made.iter().chain(expected).any(|x| !x.is_finite()) {
                    let place = format!("{name}: sequence {sequence}, step {step}");
                    return Err(format!("{place}: logits are {off:e} from those {of}; {TOLERANCE:e} is allowed").into());
                }
                largest = largest.max(off);
            }
        }
        Ok(largest)
    }

    fn print_memory(&self, usage: &Usage) {
        let layers = self.model.layers.len();
        let bytes = |tokens: usize| (2 * layers * tokens * DIM * size_of::<f32>()) as f64 / 1e6;
        let tokens: usize = self.prompts.iter().map(|prompt| prompt.len() + self.steps).sum();
        let padded = PROMPTS.len() * (PROMPTS[PROMPTS.len() - 1] + self.steps);
        println!(
            "  {} pages in each of {layers} layers, {:.1} MB, for {tokens} tokens of {:.1} MB; padded to the longest, {:.1} MB.",
            usage.used,
            bytes(usage.used * PAGE),
            bytes(tokens),
            bytes(padded)
        );
    }

    /// Continues the longest prompt with its most likely token and with the one after that, from shared pages.
    fn continuations(&self, made: &Generated) -> Result<(), Box<dyn Error>> {
        let name = self.position.name();
        let prompt = self.prompts[PROMPTS.len() - 1];
        let mut paged = self.paged(&[prompt], 2)?;
        let go = |paged: &mut Paged, prompts: &[(usize, &[u8])], steps: usize| {
            generate(&self.model, paged, prompts, steps, None, &|| ())
        };
        let first = paged.start()?;
        let logits = go(&mut paged, &[(first, prompt)], 0)?.logits;
        let [likely, second] = best(&logits[0][0]);
        let other = paged.fork(first)?;
        let forked = paged.usage()?.used;
        let both = go(&mut paged, &[(first, &[likely]), (other, &[second])], self.steps - 1)?;
        let usage = paged.usage()?;

        // The same from a cache of its own, which shares nothing.
        let mut apart = self.paged(&[prompt], 1)?;
        let sequence = apart.start()?;
        go(&mut apart, &[(sequence, prompt)], 0)?;
        let expected = go(&mut apart, &[(sequence, &[second])], self.steps - 1)?;
        let went_on = &made.tokens[PROMPTS.len() - 1][1..];
        if both.tokens[0] != went_on || both.tokens[1] != expected.tokens[0] {
            return Err(format!("{name}: a fork has other tokens than a sequence of its own").into());
        }
        println!("  Two answers to one prompt of {} tokens:", prompt.len());
        for (token, answer) in [likely, second].into_iter().zip(&both.tokens) {
            let answer = [&[token][..], answer].concat();
            println!("    ...{}|{}", shown(&prompt[prompt.len() - 24..]), shown(&answer[..answer.len().min(72)]));
        }
        println!(
            "  They share {} of {forked} pages to the end: {} pages in place of {}.",
            usage.unshared - usage.used,
            usage.used,
            usage.unshared
        );
        Ok(())
    }
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).replace('\n', " ")
}

/// Runs a loop some times, and gives of each step the fastest. The first run compiles what is compiled on first use.
fn fastest(mut run: impl FnMut() -> Result<Generated, Box<dyn Error>>) -> Result<Generated, Box<dyn Error>> {
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

/// Tokens a second, and the share of attention.
fn print_row(name: &str, Generated { prefill, decode, .. }: &Generated) {
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
