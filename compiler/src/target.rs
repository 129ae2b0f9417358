//! Where a kernel runs: an instruction set, its features, and the lane count and generator of the code.

use std::fmt;
use std::sync::Arc;

use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use target_lexicon::{Architecture, Triple};
use thiserror::Error;

use crate::machine::{AVX2_LANES, Backend, InstructionSet, MOST_LANES, Machine, MultiplyAdd, ROW_LANES};

/// Settings of Cranelift's backend that a machine without fused multiply-add lacks.
const FMA: &[&str] = &["has_fma", "has_avx512f", "has_avx512vl", "has_avx512dq", "has_avx512vbmi", "has_avx512bitalg"];

/// All that Cranelift's backend uses beyond SSE4.1.
const BEYOND_SSE41: &[&str] = &[
    "has_sse42",
    "has_popcnt",
    "has_lzcnt",
    "has_bmi1",
    "has_bmi2",
    "has_avx",
    "has_avx2",
    "has_avx_vnni",
    "has_fma",
    "has_avx512f",
    "has_avx512vl",
    "has_avx512dq",
    "has_avx512vbmi",
    "has_avx512bitalg",
    "has_avx512vnni",
];

/// The features of this machine that kernels use. Only [`Features::detect`] makes one, so a value is proof that the machine can run code for it.
///
/// Features can be left unused, for tests and comparisons: code for a lesser machine runs here too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    wide: Option<clif_wide::Features>,
    /// Settings of Cranelift's x86-64 backend that are off.
    unused: &'static [&'static str],
}

impl Features {
    /// The features of this machine.
    pub fn detect() -> Features {
        Features { wide: clif_wide::Features::detect(), unused: &[] }
    }

    /// The same machine, its AVX-512 left unused by `clif-wide`.
    #[must_use]
    pub fn without_avx512(self) -> Features {
        Features { wide: self.wide.map(clif_wide::Features::without_avx512), ..self }
    }

    /// The same machine, its AVX512_BF16 left unused: products of `bf16` are computed in single precision, as on machines without.
    #[must_use]
    pub fn without_bf16(self) -> Features {
        Features { wide: self.wide.map(clif_wide::Features::without_bf16), ..self }
    }

    /// The same machine, its AVX512_VNNI left unused: rows of `i8` are multiplied in single precision, as on machines without.
    #[must_use]
    pub fn without_vnni(self) -> Features {
        Features { wide: self.wide.map(clif_wide::Features::without_vnni), ..self }
    }

    /// The same machine without `clif-wide`: Cranelift's own backend, with the instructions that the machine has for it.
    #[must_use]
    pub fn without_wide(self) -> Features {
        Features { wide: None, ..self }
    }

    /// The same machine, fused multiply-add left unused on x86-64, and with it all of `clif-wide` and AVX-512. Elsewhere there is no machine
    /// without.
    #[must_use]
    pub fn without_fma(self) -> Features {
        let unused = if self.unused.is_empty() { FMA } else { self.unused };
        Features { wide: None, unused }
    }

    /// The same machine, all beyond SSE4.1 left unused on x86-64: the least that kernels run on.
    #[must_use]
    pub fn without_avx(self) -> Features {
        Features { wide: None, unused: BEYOND_SSE41 }
    }
}

/// A target: code is generated for it, and [`Target::is_host`] says whether it can run here.
///
/// The features of the host are found by detection alone; a named target has a fixed set, so that what is generated for it is the
/// same on every machine.
///
/// What is not pinned, by [`Target::with_lanes`] or [`Target::with_backend`], is chosen for each graph: [`Target::candidates`] are ranked by
/// what the graph's plan would cost (see [`Choice`](crate::Choice)).
#[derive(Clone)]
pub struct Target {
    compilers: Arc<Compilers>,
    /// Where nothing is ranked, that of the widest candidate.
    machine: Machine,
    lanes: Option<usize>,
    backend: Option<Backend>,
}

/// Cranelift's targets of an instruction set, and its features.
struct Compilers {
    /// Compiles functions as they are written. Tile kernels are emitted in the order they are meant to run in, loads beside their uses;
    /// the mid-end would gather loads at the head of a block, out of registers, and carry constants across loops.
    isa: OwnedTargetIsa,
    /// Compiles functions after Cranelift's mid-end: for plain loops, whose addresses it moves out.
    optimising: OwnedTargetIsa,
    fma: bool,
    host: bool,
    wide: Option<clif_wide::Features>,
}

impl Compilers {
    fn new(
        isa: OwnedTargetIsa,
        optimising: OwnedTargetIsa,
        host: bool,
        wide: Option<clif_wide::Features>,
    ) -> Compilers {
        let mut compilers = Compilers { isa, optimising, fma: true, host, wide };
        if compilers.is_x86() {
            compilers.fma = compilers.has("has_fma");
        }
        compilers
    }

    fn is_x86(&self) -> bool {
        self.isa.triple().architecture == Architecture::X86_64
    }

    fn has(&self, feature: &str) -> bool {
        self.isa.isa_flags().iter().any(|flag| flag.name == feature && flag.as_bool() == Some(true))
    }

    /// All machines that code can be made for, first what is preferred where nothing else tells.
    fn machines(&self) -> Vec<Machine> {
        let wide = |lanes| self.machine(Backend::Wide, lanes);
        let (cranelift, four) = (self.machine(Backend::Cranelift, ROW_LANES), wide(ROW_LANES));
        let (eight, sixteen) = (wide(AVX2_LANES), wide(MOST_LANES));
        match self.wide {
            None => vec![cranelift],
            // Code for a named target at 4 lanes is compared among machines with and without AVX2.
            Some(_) if !self.host => vec![sixteen, eight, cranelift, four],
            Some(features) if features.avx512() => vec![sixteen, eight, four, cranelift],
            Some(_) => vec![eight, four, cranelift],
        }
    }

    fn machine(&self, backend: Backend, lanes: usize) -> Machine {
        let wide = self.wide_features(lanes).filter(|_| backend == Backend::Wide);
        let instructions = match wide {
            Some(features) if features.avx512() => InstructionSet::Avx512,
            Some(_) => InstructionSet::Avx2,
            None if !self.is_x86() => InstructionSet::Aarch64,
            None if self.fma => InstructionSet::Fma,
            None if self.has("has_avx") => InstructionSet::Avx,
            None => InstructionSet::Sse41,
        };
        let registers = instructions.registers();
        let multiply_add = match backend {
            _ if !self.fma => MultiplyAdd::Separate,
            Backend::Cranelift if self.is_x86() => MultiplyAdd::Copying,
            Backend::Wide | Backend::Cranelift => MultiplyAdd::Fused,
        };
        let dot_bf16 = wide.is_some_and(clif_wide::Features::bf16);
        let dot_i16 = wide.is_some_and(clif_wide::Features::vnni);
        Machine { backend, instructions, lanes, registers, multiply_add, dot_bf16, dot_i16 }
    }

    /// Features of wide code of some lanes.
    fn wide_features(&self, lanes: usize) -> Option<clif_wide::Features> {
        // A foreign target's code of 8 lanes is for any machine with AVX2.
        if lanes <= AVX2_LANES && !self.host { self.wide.map(clif_wide::Features::without_avx512) } else { self.wide }
    }
}

/// Why there is no such target.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The host lacks something that kernels need.
    #[error("this machine can't run kernels: {reason}")]
    Host {
        /// The missing feature.
        reason: String,
    },
    /// A triple that can't be parsed or has no backend.
    #[error("unknown target `{triple}`: {reason}; try `x86_64-unknown-linux-gnu` or `aarch64-unknown-linux-gnu`")]
    Unknown {
        /// The triple.
        triple: String,
        /// The reason.
        reason: String,
    },
    /// A lane count that the target has no code generator for.
    #[error("no code generator for {lanes} lanes of f32 on {triple}; use {known}")]
    Lanes {
        /// The lane count asked for.
        lanes: usize,
        /// The target.
        triple: String,
        /// The lane counts there are.
        known: String,
    },
    /// A code generator that the target does not have, or not at the lane count asked for.
    #[error("{backend} generates no code{} for {triple}; there is {known}", of_lanes(*.lanes))]
    Backend {
        /// The code generator asked for.
        backend: Backend,
        /// The lane count, if the target has the backend at others.
        lanes: Option<usize>,
        /// The target.
        triple: String,
        /// The generators there are.
        known: String,
    },
}

rhumb_ir::debug_as_display!(TargetError);

fn of_lanes(lanes: Option<usize>) -> String {
    lanes.map_or(String::new(), |lanes| format!(" of {lanes} lanes"))
}

fn flags(level: &str) -> Result<settings::Flags, settings::SetError> {
    let mut flags = settings::builder();
    flags.set("opt_level", level)?;
    flags.set("is_pic", "false")?;
    flags.set("enable_probestack", "false")?;
    flags.set("unwind_info", "false")?;
    // Without debug assertions nothing else verifies what Cranelift compiles: see `codegen`.
    flags.set("enable_verifier", "true")?;
    Ok(settings::Flags::new(flags))
}

impl Target {
    /// This machine, with all it has. Lane count and code generator are chosen for each graph unless they are pinned.
    ///
    /// # Errors
    /// [`TargetError::Host`] if it has no backend or lacks SSE4.1 (x86-64).
    pub fn host() -> Result<Target, TargetError> {
        Target::of(Features::detect())
    }

    /// This machine, with some of what it has: code uses nothing that `features` leave unused.
    ///
    /// # Errors
    /// [`TargetError::Host`] if it has no backend or lacks SSE4.1 (x86-64).
    pub fn of(features: Features) -> Result<Target, TargetError> {
        let host = |reason: String| TargetError::Host { reason };
        let mut builder = cranelift_native::builder().map_err(|reason| host(reason.to_owned()))?;
        if builder.triple().architecture == Architecture::X86_64 {
            for unused in features.unused {
                builder.set(unused, "false").map_err(|error| host(error.to_string()))?;
            }
        }
        let finish = |level| {
            let flags = flags(level).map_err(|error| host(error.to_string()))?;
            builder.finish(flags).map_err(|error| host(error.to_string()))
        };
        let compilers = Compilers::new(finish("none")?, finish("speed")?, true, features.wide);
        if compilers.is_x86() && !compilers.has("has_sse41") {
            return Err(host("it has no SSE4.1".to_owned()));
        }
        Ok(Target::open(compilers))
    }

    /// A target by its triple, with a fixed set of features: AVX-512 on x86-64, code of 4 lanes by Cranelift unless
    /// [`Target::with_lanes`] or [`Target::with_backend`] asks for another. Code of up to 8 lanes runs where there is AVX2 and FMA. Nothing
    /// is left to choose.
    ///
    /// # Errors
    /// [`TargetError::Unknown`] if there is no backend for it.
    pub fn named(triple: &str) -> Result<Target, TargetError> {
        let compilers = Target::compilers(triple, clif_wide::Features::cross_avx512())?;
        Ok(Target { lanes: Some(ROW_LANES), ..Target::open(compilers) }.resolved())
    }

    /// The compilers of a triple; `wide` are its wide vectors if it is an x86-64.
    fn compilers(triple: &str, wide: clif_wide::Features) -> Result<Compilers, TargetError> {
        let unknown = |reason: String| TargetError::Unknown { triple: triple.to_owned(), reason };
        let parsed: Triple = triple.parse().map_err(|error: target_lexicon::ParseError| unknown(error.to_string()))?;
        let x86 = parsed.architecture == Architecture::X86_64;
        let mut builder = cranelift_codegen::isa::lookup(parsed).map_err(|error| unknown(error.to_string()))?;
        if x86 {
            for feature in ["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_avx", "has_avx2", "has_fma"] {
                builder.enable(feature).map_err(|error| unknown(error.to_string()))?;
            }
        }
        let finish = |level| {
            let flags = flags(level).map_err(|error| unknown(error.to_string()))?;
            builder.finish(flags).map_err(|error| unknown(error.to_string()))
        };
        Ok(Compilers::new(finish("none")?, finish("speed")?, false, x86.then_some(wide)))
    }

    /// An x86-64 host that has these wide vectors, whatever this machine has: to rank candidates for, not to run.
    #[cfg(test)]
    pub(crate) fn imagined(wide: Option<clif_wide::Features>) -> Target {
        let compilers = Target::compilers("x86_64-unknown-linux-gnu", clif_wide::Features::cross_avx512());
        Target::open(Compilers { host: true, wide, ..compilers.expect("a machine") })
    }

    fn open(compilers: Compilers) -> Target {
        let machine = compilers.machine(Backend::Cranelift, ROW_LANES);
        Target { compilers: Arc::new(compilers), machine, lanes: None, backend: None }.resolved()
    }

    /// The same target with the machine of its first candidate.
    fn resolved(mut self) -> Target {
        if let Some(&machine) = self.machines().first() {
            self.machine = machine;
        }
        self
    }

    /// The machines that the pins leave.
    fn machines(&self) -> Vec<Machine> {
        let mut machines = self.compilers.machines();
        machines.retain(|machine| {
            self.lanes.is_none_or(|lanes| machine.lanes == lanes)
                && self.backend.is_none_or(|backend| machine.backend == backend)
        });
        if self.lanes.is_some() {
            machines.truncate(1);
        }
        machines
    }

    /// The same target with code of this many lanes, pinned: by the backend that is pinned, or else by `clif-wide` where this machine has
    /// it (by Cranelift at 4 lanes of a [named](Target::named) target).
    ///
    /// # Errors
    /// [`TargetError::Lanes`] if the target has no such code generator, [`TargetError::Backend`] if the pinned backend is none.
    pub fn with_lanes(self, lanes: usize) -> Result<Target, TargetError> {
        if !self.compilers.machines().iter().any(|machine| machine.lanes == lanes) {
            let known: Vec<String> = self.lane_counts().iter().map(ToString::to_string).collect();
            return Err(TargetError::Lanes { lanes, triple: self.triple(), known: known.join(", ") });
        }
        Target { lanes: Some(lanes), ..self }.pinned()
    }

    /// The same target with code by this backend, pinned; its lane counts are chosen among unless they are pinned too.
    ///
    /// # Errors
    /// [`TargetError::Backend`] if the target does not have it, or not at the pinned lane count.
    pub fn with_backend(self, backend: Backend) -> Result<Target, TargetError> {
        Target { backend: Some(backend), ..self }.pinned()
    }

    fn pinned(self) -> Result<Target, TargetError> {
        let backend = self.backend.filter(|_| self.machines().is_empty());
        let Some(backend) = backend else { return Ok(self.resolved()) };
        let by = |backend: Backend| {
            let mut lanes: Vec<usize> =
                self.compilers.machines().iter().filter(|m| m.backend == backend).map(|m| m.lanes).collect();
            lanes.sort_unstable();
            let lanes: Vec<String> = lanes.iter().map(ToString::to_string).collect();
            (!lanes.is_empty()).then(|| format!("{backend} at {} lanes", lanes.join(", ")))
        };
        let known: Vec<String> = Backend::ALL.into_iter().filter_map(by).collect();
        // Lanes are not what is amiss where the backend has none.
        let lanes = self.lanes.filter(|_| by(backend).is_some());
        Err(TargetError::Backend { backend, lanes, triple: self.triple(), known: known.join(", ") })
    }

    /// The candidates for a graph's code, in the order of preference where costs are equal: the target's code generators at each lane count
    /// they have, as far as they are not pinned. Each is a target with nothing left to choose.
    pub fn candidates(&self) -> Vec<Target> {
        let pinned = |machine: Machine| Target {
            compilers: self.compilers.clone(),
            machine,
            lanes: Some(machine.lanes),
            backend: Some(machine.backend),
        };
        self.machines().into_iter().map(pinned).collect()
    }

    /// Whether nothing is left to choose because lanes were asked for, of a named target 4 unless others were.
    pub fn is_pinned(&self) -> bool {
        self.lanes.is_some()
    }

    /// The lane counts that code can be generated for: 4 everywhere, 8 with AVX2 and FMA, 16 with AVX-512.
    pub fn lane_counts(&self) -> &'static [usize] {
        let instructions = match self.compilers.wide {
            None => self.machine.instructions,
            Some(features) if features.avx512() => InstructionSet::Avx512,
            Some(_) => InstructionSet::Avx2,
        };
        instructions.lane_counts()
    }

    /// The machine that code is made for; what is not pinned, as the widest candidate has it.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The features of wide code, if that is what the target's code is.
    pub(crate) fn wide_features(&self) -> Option<clif_wide::Features> {
        let Machine { backend, lanes, .. } = self.machine;
        self.compilers.wide_features(lanes).filter(|_| backend == Backend::Wide)
    }

    /// Whether the code can run on this machine.
    pub fn is_host(&self) -> bool {
        self.compilers.host
    }

    /// The target triple.
    pub fn triple(&self) -> String {
        self.compilers.isa.triple().to_string()
    }

    /// The Cranelift target that runs the mid-end.
    pub(crate) fn optimising_isa(&self) -> &dyn TargetIsa {
        &*self.compilers.optimising
    }

    /// The Cranelift target behind it.
    pub(crate) fn isa(&self) -> &dyn TargetIsa {
        &*self.compilers.isa
    }
}

/// `x86_64-unknown-linux-gnu, fma, 16 lanes (clif-wide, avx512)`; where there is a choice, all of it. Without `fma` it says `avx` or `sse4.1`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fma = match self.compilers.fma {
            true => ", fma",
            false if self.compilers.has("has_avx") => ", avx",
            false => ", sse4.1",
        };
        let candidates: Vec<String> = self.machines().iter().map(Machine::to_string).collect();
        write!(f, "{}{fma}, {}", self.triple(), candidates.join(" or "))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}
