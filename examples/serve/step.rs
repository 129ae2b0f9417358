//! Steps of many sequences at once, and the loop that generates by them.

use std::error::Error;
use std::time::{Duration, Instant};

use ndarray::{Array2, Axis};

use crate::transformer::{DIM, Model};

/// Tokens of a prompt that a step takes.
const CHUNK: usize = 64;

/// Attention of all layers, with the keys and values that it keeps of each sequence.
pub(crate) trait Attend {
    /// Keeps the keys and values of new tokens, and attends from these tokens to all of their sequences so far. Rows of queries, keys,
    /// values and results are those of `pieces`, one after the other; each has its heads side by side.
    fn attend(
        &mut self,
        layer: usize,
        pieces: &Pieces,
        qkv: &[Array2<f32>; 3],
        mixed: &mut Array2<f32>,
    ) -> Result<(), Box<dyn Error>>;
}

/// What a step computes: of each of some sequences the next tokens, any number, one sequence after the other.
pub(crate) struct Pieces {
    pub(crate) tokens: Vec<u8>,
    sequences: Vec<usize>,
    /// Where each piece begins, and the end of the last.
    offsets: Vec<usize>,
}

/// The rows of a sequence in a step.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) sequence: usize,
    pub(crate) first: usize,
    pub(crate) len: usize,
}

impl Pieces {
    pub(crate) fn new() -> Pieces {
        Pieces { tokens: Vec::new(), sequences: Vec::new(), offsets: vec![0] }
    }

    pub(crate) fn add(&mut self, sequence: usize, tokens: &[u8]) {
        self.sequences.push(sequence);
        self.tokens.extend(tokens);
        self.offsets.push(self.tokens.len());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Piece> {
        let ends = self.offsets.windows(2);
        self.sequences.iter().zip(ends).map(|(&sequence, ends)| Piece {
            sequence,
            first: ends[0],
            len: ends[1] - ends[0],
        })
    }

    /// Cumulative lengths, from 0 on.
    pub(crate) fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// The row of the last token of each piece.
    pub(crate) fn last_rows(&self) -> Vec<usize> {
        self.offsets[1..].iter().map(|end| end - 1).collect()
    }
}

/// Where the time of steps went.
#[derive(Clone, Default)]
pub(crate) struct Times {
    pub(crate) tokens: usize,
    steps: Vec<Time>,
}

/// The time of a step.
#[derive(Clone, Copy, Default)]
struct Time {
    total: Duration,
    /// Of it in attention, the appending of keys and values included.
    attention: Duration,
}

impl Times {
    pub(crate) fn total(&self) -> f64 {
        self.steps.iter().map(|step| step.total.as_secs_f64()).sum()
    }

    pub(crate) fn attention(&self) -> f64 {
        self.steps.iter().map(|step| step.attention.as_secs_f64()).sum()
    }

    /// Times one more step; gives its logits.
    fn of(
        &mut self,
        pieces: &Pieces,
        step: &mut impl FnMut(&Pieces) -> Result<Step, Box<dyn Error>>,
    ) -> Result<Array2<f32>, Box<dyn Error>> {
        let start = Instant::now();
        let (logits, attention) = step(pieces)?;
        self.tokens += pieces.tokens.len();
        self.steps.push(Time { total: start.elapsed(), attention });
        Ok(logits)
    }

    /// Adds the steps of other sequences.
    fn add(&mut self, more: Times) {
        self.tokens += more.tokens;
        self.steps.extend(more.steps);
    }

    /// Of each step the faster of two runs: what else the machine does at times does not count.
    fn keep_faster(&mut self, other: &Times) {
        for (step, other) in self.steps.iter_mut().zip(&other.steps).filter(|(step, other)| other.total < step.total) {
            *step = *other;
        }
    }
}

/// Runs all layers on some pieces. Gives a row for each token, and the time of attention.
pub(crate) fn forward(
    model: &Model,
    attention: &mut dyn Attend,
    pieces: &Pieces,
) -> Result<(Array2<f32>, Duration), Box<dyn Error>> {
    let tokens = pieces.tokens.len();
    let mut stream = model.embed(&pieces.tokens);
    let mut qkv = [(); 3].map(|()| Array2::zeros([tokens, DIM]));
    let mut mixed = Array2::zeros([tokens, DIM]);
    let mut time = Duration::ZERO;
    for (number, layer) in model.layers.iter().enumerate() {
        layer.project(&stream, &mut qkv);
        let start = Instant::now();
        attention.attend(number, pieces, &qkv, &mut mixed)?;
        time += start.elapsed();
        layer.finish(&mut stream, &mixed);
    }
    Ok((stream, time))
}

/// The logits behind the last token of each piece, and the time of attention.
pub(crate) type Step = (Array2<f32>, Duration);

/// Computes a step by all layers.
fn step(model: &Model, attention: &mut dyn Attend, pieces: &Pieces) -> Result<Step, Box<dyn Error>> {
    let (stream, time) = forward(model, attention, pieces)?;
    Ok((model.logits(&stream.select(Axis(0), &pieces.last_rows()).view()), time))
}

/// What was generated behind each prompt.
#[derive(Default)]
pub(crate) struct Generated {
    /// One token by the last of the prompt, and one by each step.
    pub(crate) tokens: Vec<Vec<u8>>,
    /// The logits of each of these tokens.
    pub(crate) logits: Vec<Vec<Vec<f32>>>,
    pub(crate) prefill: Times,
    pub(crate) decode: Times,
}

/// Takes prompts into their sequences, in chunks, then generates a token for each in every step.
///
/// Tokens are the most likely ones, or `given` ones, so that two runs have the same to compute. A sequence that has tokens already goes on:
/// its prompt stands behind them. `tick` is called after each token.
pub(crate) fn generate(
    model: &Model,
    attention: &mut dyn Attend,
    prompts: &[(usize, &[u8])],
    steps: usize,
    given: Option<&[Vec<u8>]>,
    tick: &dyn Fn(),
) -> Result<Generated, Box<dyn Error>> {
    generate_by(&mut |pieces| step(model, attention, pieces), prompts, steps, given, tick)
}

/// The same by whatever computes a step.
pub(crate) fn generate_by(
    step: &mut impl FnMut(&Pieces) -> Result<Step, Box<dyn Error>>,
    prompts: &[(usize, &[u8])],
    steps: usize,
    given: Option<&[Vec<u8>]>,
    tick: &dyn Fn(),
) -> Result<Generated, Box<dyn Error>> {
    let none = || vec![Vec::new(); prompts.len()];
    let mut made = Generated {
        tokens: none(),
        logits: vec![Vec::new(); prompts.len()],
        prefill: Times::default(),
        decode: Times::default(),
    };
    let longest = prompts.iter().map(|(_, prompt)| prompt.len()).max().unwrap_or(0);
    for start in (0..longest).step_by(CHUNK) {
        let mut pieces = Pieces::new();
        let going: Vec<usize> = (0..prompts.len()).filter(|number| prompts[*number].1.len() > start).collect();
        for &number in &going {
            let (sequence, prompt) = prompts[number];
            pieces.add(sequence, &prompt[start..prompt.len().min(start + CHUNK)]);
        }
        let logits = made.prefill.of(&pieces, step)?;
        for (number, logits) in going.into_iter().zip(logits.rows()) {
            if prompts[number].1.len() <= start + CHUNK {
                made.logits[number].push(logits.to_vec());
            }
        }
    }
    made.choose(given);
    for _ in 0..steps {
        let mut pieces = Pieces::new();
        for ((sequence, _), tokens) in prompts.iter().zip(&made.tokens) {
            pieces.add(*sequence, &tokens[tokens.len() - 1..]);
        }
        let logits = made.decode.of(&pieces, step)?;
        made.logits.iter_mut().zip(logits.rows()).for_each(|(all, logits)| all.push(logits.to_vec()));
        made.choose(given);
        tick();
    }
    Ok(made)
}

impl Generated {
    /// Keeps the times of a run that generated the same, where it was faster.
    pub(crate) fn keep_faster(&mut self, other: &Generated) {
        self.prefill.keep_faster(&other.prefill);
        self.decode.keep_faster(&other.decode);
    }

    /// Adds what was generated of other sequences.
    pub(crate) fn add(&mut self, more: Generated) {
        self.tokens.extend(more.tokens);
        self.logits.extend(more.logits);
        self.prefill.add(more.prefill);
        self.decode.add(more.decode);
    }

    /// Adds the tokens of the last logits.
    fn choose(&mut self, given: Option<&[Vec<u8>]>) {
        for (number, (tokens, logits)) in self.tokens.iter_mut().zip(&self.logits).enumerate() {
            let token = match given {
                Some(given) => given[number][tokens.len()],
                None => logits.last().map_or(0, |logits| best(logits)[0]),
            };
            tokens.push(token);
        }
    }
}

/// The most likely token, and the one after it.
pub(crate) fn best(logits: &[f32]) -> [u8; 2] {
    let mut tokens: Vec<u8> = (0..=u8::MAX).collect();
    let logit = |token: &u8| logits[usize::from(*token)];
    tokens.select_nth_unstable_by(1, |a, b| logit(b).total_cmp(&logit(a)).then(a.cmp(b)));
    [tokens[0], tokens[1]]
}
