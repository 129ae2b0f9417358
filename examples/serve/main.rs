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

#[path = "../support/options.rs"]
mod options;
mod paged;
mod plain;
mod position;
mod step;
mod task;
#[path = "../support/transformer.rs"]
mod transformer;

use std::error::Error;

use indicatif::{ProgressBar, ProgressStyle};
use paged::{PAGE, Paged, Uncached, Usage};
use plain::Plain;
use position::Position;
use rhumb::prelude::*;
use step::{Generated, Pieces, best, forward, generate};
use task::{PROMPTS, RUNS, STEPS, TOLERANCE, Task, check, fastest, print_head, print_row};
use transformer::DIM;

/// What is measured, checked and told of one model.
struct Bench<'a> {
    engine: &'a Engine,
    task: Task<'a>,
    progress: &'a ProgressBar,
}

fn main() -> Result<(), Box<dyn Error>> {
    let steps = if options::quick()? { STEPS / 8 } else { STEPS };
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
        Bench { engine: &engine, task: Task::load(data, &text, position, steps)?, progress: &progress }.run()?;
    }
    Ok(())
}

impl Bench<'_> {
    /// Measures, checks and prints.
    fn run(&self) -> Result<(), Box<dyn Error>> {
        let name = self.task.position.name();
        let phase = |what: &str, sequences: usize| {
            self.progress.reset();
            self.progress.set_length((sequences * self.task.steps) as u64);
            self.progress.set_message(format!("{name}: {what}"));
        };
        phase("one sequence at a time", RUNS * PROMPTS.len());
        let alone = fastest(|| self.alone())?;
        phase("all at once", RUNS);
        let mut usage = Usage { used: 0, unshared: 0 };
        let together = fastest(|| {
            let (made, used) = self.task.together(self.engine, &|| self.tick())?;
            usage = used;
            Ok(made)
        })?;
        phase("all at once by plain operations", RUNS);
        let plain = fastest(|| self.plain(&together.tokens))?;
        self.progress.finish_and_clear();

        if together.tokens != alone.tokens {
            return Err(format!("{name}: sequences have other tokens together than alone").into());
        }
        let whole = self.whole(&together)?;
        let from_whole = check(&together.logits, &whole, "of whole sequences without a cache")?;
        let from_plain = check(&together.logits, &plain.logits, "of plain operations")?;

        print_head(name);
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

    fn tick(&self) {
        self.progress.inc(1);
    }

    /// Each sequence by itself, one after the other.
    fn alone(&self) -> Result<Generated, Box<dyn Error>> {
        let mut all = Generated::default();
        for prompt in &self.task.prompts {
            let mut paged = self.task.paged(self.engine, &[prompt], 1)?;
            let numbered = [(paged.start()?, *prompt)];
            all.add(generate(&self.task.model, &mut paged, &numbered, self.task.steps, None, &|| self.tick())?);
        }
        Ok(all)
    }

    /// The same loop on the same tokens by plain operations.
    fn plain(&self, tokens: &[Vec<u8>]) -> Result<Generated, Box<dyn Error>> {
        let Task { model, position, prompts, steps } = &self.task;
        let mut plain = Plain::new(*position, model.layers.len(), prompts.len(), self.task.longest());
        generate(model, &mut plain, &self.task.numbered(), *steps, Some(tokens), &|| self.tick())
    }

    /// The logits of all generated tokens, computed anew by one pass over each whole sequence.
    fn whole(&self, made: &Generated) -> Result<Vec<Vec<Vec<f32>>>, Box<dyn Error>> {
        let mut uncached = Uncached(self.engine.compile(&self.task.position.over_keys().build()?)?);
        let mut all = Vec::new();
        for (prompt, tokens) in self.task.prompts.iter().zip(&made.tokens) {
            let mut pieces = Pieces::new();
            pieces.add(0, &[prompt, &tokens[..self.task.steps]].concat());
            let (stream, _) = forward(&self.task.model, &mut uncached, &pieces)?;
            let logits = self.task.model.logits(&stream.view());
            all.push(logits.rows().into_iter().skip(prompt.len() - 1).map(|row| row.to_vec()).collect());
        }
        Ok(all)
    }

    fn print_memory(&self, usage: &Usage) {
        let layers = self.task.model.layers.len();
        let bytes = |tokens: usize| (2 * layers * tokens * DIM * size_of::<f32>()) as f64 / 1e6;
        let tokens: usize = self.task.prompts.iter().map(|prompt| prompt.len() + self.task.steps).sum();
        let padded = PROMPTS.len() * self.task.longest();
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
        let name = self.task.position.name();
        let prompt = self.task.prompts[PROMPTS.len() - 1];
        let mut paged = self.task.paged(self.engine, &[prompt], 2)?;
        let go = |paged: &mut Paged, prompts: &[(usize, &[u8])], steps: usize| {
            generate(&self.task.model, paged, prompts, steps, None, &|| ())
        };
        let first = paged.start()?;
        let logits = go(&mut paged, &[(first, prompt)], 0)?.logits;
        let [likely, second] = best(&logits[0][0]);
        let other = paged.fork(first)?;
        let forked = paged.usage()?.used;
        let both = go(&mut paged, &[(first, &[likely]), (other, &[second])], self.task.steps - 1)?;
        let usage = paged.usage()?;

        // The same from a cache of its own, which shares nothing.
        let mut apart = self.task.paged(self.engine, &[prompt], 1)?;
        let sequence = apart.start()?;
        go(&mut apart, &[(sequence, prompt)], 0)?;
        let expected = go(&mut apart, &[(sequence, &[second])], self.task.steps - 1)?;
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
