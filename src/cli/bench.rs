//! `rhumb bench`.

use std::time::{Duration, Instant};

use rhumb::compiler::Ranked;
use rhumb::prelude::*;
use serde_json::json;

use super::args::EngineArgs;
use super::dims::{Dims, Lengths};
use super::error::CliError;
use super::graph::GraphArgs;
use super::output::{print, progress};
use super::tensors::Tensors;
use super::work::{Work, work};

/// Times a graph on random tensors.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
GFLOP/s are effective: two operations for each multiply and add of the graph's matrix products (4 q k d per head in \
all), of which those of the scores count only as far as masks let them through (about half under a causal mask). \
GB/s count each input and output once.")]
pub(super) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// Lengths of the axes that the graph leaves open, as in b=1,q=2048,k=2048
    #[arg(long, value_name = "AXIS=N,...")]
    dims: Dims,
    /// Seed of the inputs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How long to time
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number from 0 to 3600".to_owned()),
    }
}

/// Calls timed at least.
const LEAST: usize = 3;
/// Calls timed at most.
const MOST: usize = 100_000;

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let registry = args.graph.registry()?;
    let graph = args.graph.load(&registry)?;
    let engine = args.engine.build(registry)?;
    let bar = progress("compiling");
    let start = Instant::now();
    let kernel = engine.compile(&graph)?;
    let compile = start.elapsed();
    let interface = kernel.interface();
    let lengths = Lengths::new(interface, &args.dims)?;
    let mut tensors = Tensors::random(interface, &lengths, args.seed)?;

    bar.set_message("timing");
    // The first call makes the working memory.
    tensors.call(kernel.call())?;
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < LEAST || (start.elapsed().as_secs_f64() < args.seconds && times.len() < MOST) {
        let call = Instant::now();
        tensors.call(kernel.call())?;
        times.push(call.elapsed());
        bar.tick();
    }
    bar.set_message("counting operations");
    let work = work(&graph, engine.registry(), &tensors, &lengths)?;
    bar.finish_and_clear();

    times.sort_unstable();
    let timed = Timed { times, compile, work, bytes: tensors.bytes(), threads: engine.threads() };
    print(&if args.json { timed.json(&kernel) } else { timed.text(&kernel) })
}

/// What was measured.
struct Timed {
    /// The time of each call, the least first.
    times: Vec<Duration>,
    compile: Duration,
    work: Work,
    /// Bytes of inputs and outputs.
    bytes: usize,
    threads: usize,
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Timed {
    fn median(&self) -> Duration {
        (self.times[(self.times.len() - 1) / 2] + self.times[self.times.len() / 2]) / 2
    }

    fn min(&self) -> f64 {
        milliseconds(self.times[0])
    }

    fn max(&self) -> f64 {
        milliseconds(self.times[self.times.len() - 1])
    }

    /// Thousands of millions in a second, at the median.
    fn per_second(&self, count: f64) -> f64 {
        count / self.median().as_secs_f64().max(1e-9) / 1e9
    }

    fn gflops(&self) -> f64 {
        self.per_second(self.work.operations)
    }

    fn gbytes(&self) -> f64 {
        self.per_second(self.bytes as f64)
    }

    /// One JSON object.
    fn json(&self, kernel: &Kernel) -> String {
        let machine = kernel.target().machine();
        let candidates: Vec<_> = kernel.choice().ranked().iter().map(candidate).collect();
        let report = json!({
            "median_ms": rounded(milliseconds(self.median())),
            "min_ms": rounded(self.min()),
            "max_ms": rounded(self.max()),
            "gflops": rounded(self.gflops()),
            "gbytes_per_s": rounded(self.gbytes()),
            "lanes": machine.lanes,
            "backend": machine.backend.name(),
            "pinned": kernel.choice().is_pinned(),
            "candidates": candidates,
            "threads": self.threads,
            "compile_ms": rounded(milliseconds(self.compile)),
        });
        format!("{report}\n")
    }

    fn text(&self, kernel: &Kernel) -> String {
        format!(
            "\
median   {:.3} ms of {} calls, from {:.3} to {:.3}
rate     {:.1} GFLOP/s effective, {:.1} % of query-key pairs visible
memory   {:.2} GB/s of inputs and outputs
compile  {:.1} ms
run on   {} thread{}, {}
chosen   {}
",
            milliseconds(self.median()),
            self.times.len(),
            self.min(),
            self.max(),
            self.gflops(),
            100.0 * self.work.visible,
            self.gbytes(),
            milliseconds(self.compile),
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            kernel.target(),
            kernel.choice().reason(),
        )
    }
}

/// To the millionth.
fn rounded(x: f64) -> f64 {
    (x * 1e6).round() / 1e6
}

/// What a candidate of the target would cost.
fn candidate(Ranked { target, estimate }: &Ranked) -> serde_json::Value {
    let parts: serde_json::Map<_, _> =
        estimate.parts().into_iter().map(|(name, cycles)| (name.replace(' ', "_"), json!(rounded(cycles)))).collect();
    json!({
        "lanes": target.machine().lanes,
        "backend": target.machine().backend.name(),
        "cycles_per_pair": rounded(estimate.cycles()),
        "parts": parts,
    })
}
