//! The example `serve` beside the same loop by candle's operations: eight prompts of different lengths, then 256 steps of one token for each, on
//! the two models of `examples/data/README.md`.
//!
//! Both loops take the same pieces in the same steps. That of rhumb is the example's own, its keys and values in pages; that of candle
//! (`candle.rs`) has a `KvCache` for each layer and sequence, as candle's models have, and each of candle's attentions in turn; once it has rhumb's, so that
//! all but attention is the same. Prints tokens a second and the share of attention. Fails unless the logits agree, and unless each token is candle's choice as well.
//!
//! `cargo run --release --bin serve`, or with `-- --quick` for an eighth of the steps. Everyone has the threads that `RAYON_NUM_THREADS` says.

mod candle;
#[path = "../../../../examples/support/options.rs"]
mod options;
#[allow(dead_code, reason = "forks and whole sequences are the example's")]
#[path = "../../../../examples/serve/paged.rs"]
mod paged;
#[allow(dead_code, reason = "attention over whole sequences is the example's")]
#[path = "../../../../examples/serve/position.rs"]
mod position;
#[allow(dead_code, reason = "one sequence at a time is the example's")]
#[path = "../../../../examples/serve/step.rs"]
mod step;
#[allow(dead_code, reason = "runs that do not take turns are the example's")]
#[path = "../../../../examples/serve/task.rs"]
mod task;
#[path = "../../../../examples/support/transformer.rs"]
mod transformer;

use std::error::Error;

use candle::{Served, Way};
use position::Position;
use rhumb::prelude::Engine;
use step::{Generated, best, generate_by};
use task::{PROMPTS, STEPS, TOLERANCE, Task, check, print_head, print_row};

/// Runs of each loop.
const ROUNDS: usize = 8;
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data");

fn main() -> Result<(), Box<dyn Error>> {
    let steps = if options::quick()? { STEPS / 8 } else { STEPS };
    let text =
        std::fs::read(format!("{DATA}/validation.txt")).map_err(|error| format!("{DATA}/validation.txt: {error}"))?;
    let engine = Engine::builder().threads(rayon::current_num_threads()).build()?;
    let (least, most) = (PROMPTS[0], PROMPTS[PROMPTS.len() - 1]);
    println!("{} prompts of {least} to {most} tokens, then {steps} steps of one token for each", PROMPTS.len());
    println!("{}, {} threads", engine.target(), engine.threads());
    for position in [Position::Alibi, Position::Rope] {
        compare(&engine, &Task::load(DATA, &text, position, steps)?)?;
    }
    Ok(())
}

/// Runs all loops on a model in turns, and prints them side by side: of each step the fastest run counts.
fn compare(engine: &Engine, task: &Task<'_>) -> Result<(), Box<dyn Error>> {
    let name = task.position.name();
    let example = || Ok::<_, Box<dyn Error>>(task.together(engine, &|| ())?.0);
    // The first runs compile what is compiled on first use.
    let mut rhumb = example()?;
    let tokens = rhumb.tokens.clone();
    let mut others = Way::ALL.map(|way| (way, Generated::default()));
    for (way, made) in &mut others {
        *made = by_candle(engine, task, *way, &tokens)?;
        agree(made).map_err(|error| format!("{name}, {}: {error}", way.name()))?;
    }
    for _ in 1..ROUNDS {
        rhumb.keep_faster(&example()?);
        for (way, made) in &mut others {
            made.keep_faster(&by_candle(engine, task, *way, &tokens)?);
        }
    }
    let mut largest = 0.0f32;
    print_head(name);
    print_row("rhumb, as in the example", &rhumb);
    for (way, made) in &others {
        largest = largest.max(check(&rhumb.logits, &made.logits, &format!("of {}", way.name()))?);
        print_row(way.name(), made);
    }
    let best = |time: fn(&Generated) -> f64| {
        let [ours, theirs @ ..] = others.each_ref().map(|(_, made)| time(made));
        theirs.into_iter().fold(f64::INFINITY, f64::min) / ours
    };
    let (prefill, decode) = (best(|made| made.prefill.attention()), best(|made| made.decode.attention()));
    println!(
        "  In candle's loop its fastest attention takes {prefill:.1} times as long as rhumb's in prefill, {decode:.1} times in decode."
    );
    println!("  Tokens are the same. Logits are at most {largest:.0e} apart; {TOLERANCE:.0e} is allowed.");
    Ok(())
}

/// The loop by candle's operations on given tokens.
fn by_candle(engine: &Engine, task: &Task<'_>, way: Way, tokens: &[Vec<u8>]) -> Result<Generated, Box<dyn Error>> {
    let path = format!("{DATA}/{}.safetensors", task.position.name());
    let paged = if way == Way::Rhumb {
        let mut paged = task.paged(engine, &task.prompts, 1)?;
        // In the order of the prompts, which is that of their numbers.
        for _ in &task.prompts {
            paged.start()?;
        }
        Some(paged)
    } else {
        None
    };
    let mut served = Served::load(&path, task.position, (way, paged), [task.prompts.len(), task.longest()])?;
    generate_by(&mut |pieces| served.step(pieces), &task.numbered(), task.steps, Some(tokens), &|| ())
}

/// An error unless each token that was given is the most likely one.
fn agree(made: &Generated) -> Result<(), Box<dyn Error>> {
    for (sequence, (tokens, logits)) in made.tokens.iter().zip(&made.logits).enumerate() {
        for (step, (token, logits)) in tokens.iter().zip(logits).enumerate() {
            let chosen = best(logits)[0];
            if chosen != *token {
                return Err(format!("sequence {sequence}, step {step}: token {chosen} in place of {token}").into());
            }
        }
    }
    Ok(())
}
