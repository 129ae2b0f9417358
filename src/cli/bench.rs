//! `rhumb bench`.

use std::time::{Duration, Instant};

use rhumb::compiler::Ranked;
use serde_json::json;

use super::args::EngineArgs;
use super::dims::{Dims, Lengths};
use super::error::CliError;
use super::graph::GraphArgs;
use super::output::{print, progress};
use super::tensors::Tensors;
use super::work::work;

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
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let (min, max) = (milliseconds(times[0]), milliseconds(times[times.len() - 1]));
    let middle = (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2;
    let per_second = |count: f64| count / middle.as_secs_f64().max(1e-9) / 1e9;
    let (gflops, gbytes) = (per_second(work.operations), per_second(tensors.bytes() as f64));
    let (median, compile) = (milliseconds(middle), milliseconds(compile));
    let (target, threads) = (kernel.target(), engine.threads());
    if args.json {
        let rounded = |x: f64| (x * 1e6).round() / 1e6;
        let candidate = |Ranked { target, estimate }: &Ranked| {
            let parts: serde_json::Map<_, _> = estimate
                .parts()
                .into_iter()
                .map(|(name, cycles)| (name.replace(' ', "_"), json!(rounded(cycles))))
                .collect();
            json!({
                "lanes": target.machine().lanes,
                "backend": target.machine().backend.name(),
                "cycles_per_pair": rounded(estimate.cycles()),
                "parts": parts,
            })
        };
        let candidates: Vec<_> = kernel.choice().ranked().iter().map(candidate).collect();
        let report = json!({
            "median_ms": rounded(median),
            "min_ms": rounded(min),
            "max_ms": rounded(max),
            "gflops": rounded(gflops),
            "gbytes_per_s": rounded(gbytes),
            "lanes": target.machine().lanes,
            "backend": target.machine().backend.name(),
            "pinned": kernel.choice().is_pinned(),
            "candidates": candidates,
            "threads": threads,
            "compile_ms": rounded(compile),
        });
        return print(&format!("{report}\n"));
    }
    print(&format!(
        "\
median   {median:.3} ms of {} calls, from {min:.3} to {max:.3}
rate     {gflops:.1} GFLOP/s effective, {:.1} % of query-key pairs visible
memory   {gbytes:.2} GB/s of inputs and outputs
compile  {compile:.1} ms
run on   {threads} thread{}, {target}
chosen   {}
",
        times.len(),
        100.0 * work.visible,
        if threads == 1 { "" } else { "s" },
        kernel.choice().reason(),
    ))
}
