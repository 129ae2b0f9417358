//! Runs rhumb, candle, the vector sum and the peak of multiply-adds for `comparison/run.py`.
//!
//! Requests come in as lines of JSON, answers go out as lines of JSON: `{"ok": ...}` or `{"error": "..."}`. Times are taken in here,
//! around the calls alone. `comparison/compare/serve.py` is the same program for the peers that are Python libraries.

mod case;
mod numbers;
mod peak;
mod sum;
#[cfg(feature = "candle")]
mod with_candle;
mod with_rhumb;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rhumb::prelude::Target;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::case::{Case, Tensors};
use crate::with_rhumb::Vectors;

/// What went wrong, in words for whoever reads the report.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One library's way to compute a case.
pub(crate) trait Contender {
    /// One call.
    fn run(&mut self) -> Result<(), Failure>;

    /// What the last call computed: `[batch, head, token, element]`, of the vector sum a number.
    fn output(&self) -> Result<Vec<f32>, Failure>;
}

/// A contender that is ready to run.
pub(crate) struct Prepared {
    pub(crate) contender: Box<dyn Contender>,
    /// How long its compilation took, where there is one.
    pub(crate) compile: Option<Duration>,
    /// What it uses, in words.
    pub(crate) detail: String,
}

/// A line from the driver.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Request {
    /// Sets the threads; gives the libraries that were built in, and rhumb's lanes.
    Hello { threads: usize },
    /// Loads the tensors of a case from a folder and forgets those before.
    Case { case: Case, folder: PathBuf },
    /// Makes a contender ready.
    Prepare { contender: String },
    /// Runs a contender once and writes its output; gives its time as well.
    Output { contender: String, path: PathBuf },
    /// Runs a contender, and times `calls` calls after some that are not timed.
    Time { contender: String, warm: usize, calls: usize },
    /// Forgets a contender.
    Drop { contender: String },
    /// The peak of multiply-adds, best of some runs.
    Peak { runs: usize },
}

/// All that lives between requests.
struct Worker {
    threads: usize,
    case: Option<(Case, Arc<Tensors>)>,
    contenders: BTreeMap<String, Box<dyn Contender>>,
}

impl Worker {
    fn answer(&mut self, request: Request) -> Result<Value, Failure> {
        match request {
            Request::Hello { threads } => {
                self.threads = threads;
                let target = Target::host()?;
                let libraries: &[&str] = if cfg!(feature = "candle") { &["rhumb", "candle"] } else { &["rhumb"] };
                Ok(json!({
                    "libraries": libraries,
                    "lanes": target.machine().lanes,
                }))
            }
            Request::Case { case, folder } => {
                self.contenders.clear();
                self.case = None;
                let tensors = Tensors::read(&folder, &case)?;
                self.case = Some((case, tensors));
                Ok(json!({}))
            }
            Request::Prepare { contender } => {
                let Prepared { contender: made, compile, detail } = self.prepare(&contender)?;
                self.contenders.insert(contender, made);
                Ok(json!({ "compile_seconds": compile.map(|time| time.as_secs_f64()), "detail": detail }))
            }
            Request::Output { contender, path } => {
                let contender = self.contender(&contender)?;
                let start = Instant::now();
                contender.run()?;
                let seconds = start.elapsed().as_secs_f64();
                case::write(&path, &contender.output()?)?;
                Ok(json!({ "seconds": seconds }))
            }
            Request::Time { contender, warm, calls } => {
                let contender = self.contender(&contender)?;
                for _ in 0..warm {
                    contender.run()?;
                }
                let start = Instant::now();
                for _ in 0..calls {
                    contender.run()?;
                }
                Ok(json!({ "seconds": start.elapsed().as_secs_f64() / calls as f64 }))
            }
            Request::Drop { contender } => {
                self.contenders.remove(&contender);
                Ok(json!({}))
            }
            Request::Peak { runs } => {
                let rates: BTreeMap<String, f64> = peak::measure(self.threads, runs)
                    .into_iter()
                    .map(|(bits, rate)| (bits.to_string(), rate))
                    .collect();
                Ok(json!({ "gflops": rates }))
            }
        }
    }

    fn contender(&mut self, name: &str) -> Result<&mut Box<dyn Contender>, Failure> {
        self.contenders.get_mut(name).ok_or_else(|| Failure(format!("{name} was not prepared for this case")))
    }

    /// Names are `library/way`; `plain` ways leave out the scheme and the softcap.
    fn prepare(&self, name: &str) -> Result<Prepared, Failure> {
        let (case, tensors) = self.case.clone().ok_or_else(|| Failure("no case was loaded".to_owned()))?;
        match name {
            "rhumb" => with_rhumb::prepare(case, tensors, self.threads, Vectors::All),
            "rhumb/avx2" => with_rhumb::prepare(case, tensors, self.threads, Vectors::Avx2),
            "sum" => sum::prepare(&case, &tensors, self.threads),
            "rhumb/plain" => with_rhumb::prepare(case.plain(), tensors, self.threads, Vectors::All),
            "rhumb/f32" => with_rhumb::prepare(case.in_f32(), tensors, self.threads, Vectors::All),
            "rhumb/avx2-f32" => with_rhumb::prepare(case.in_f32(), tensors, self.threads, Vectors::Avx2),
            "rhumb/f32-queries" => with_rhumb::prepare(case.with_f32_queries(), tensors, self.threads, Vectors::All),
            #[cfg(feature = "candle")]
            "candle/flash" => with_candle::prepare(case, &tensors, with_candle::Way::Flash),
            #[cfg(feature = "candle")]
            "candle/flash-causal" => with_candle::prepare(case, &tensors, with_candle::Way::FlashCausal),
            #[cfg(feature = "candle")]
            "candle/matmul" => with_candle::prepare(case, &tensors, with_candle::Way::Matmul),
            _ => Err(Failure(format!("this worker was built without a contender {name}"))),
        }
    }
}

/// What a panic said.
fn words(cause: &(dyn Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

fn main() -> io::Result<()> {
    let mut worker = Worker { threads: 1, case: None, contenders: BTreeMap::new() };
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let request = serde_json::from_str(&line?).map_err(Failure::from);
        // A contender that panics ends its own part alone: the next case makes all of them anew.
        let answered = request.and_then(|request| {
            let answer = panic::catch_unwind(AssertUnwindSafe(|| worker.answer(request)));
            answer.unwrap_or_else(|cause| Err(Failure(format!("panicked: {}", words(cause.as_ref())))))
        });
        let answer = match answered {
            Ok(value) => json!({ "ok": value }),
            Err(failure) => json!({ "error": failure.to_string() }),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
