//! Where a kernel runs: an instruction set, its features, and the lane count of the code.

use std::fmt;
use std::sync::Arc;

use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use target_lexicon::{Architecture, Triple};
use thiserror::Error;

/// A target: code is generated for it, and [`Target::is_host`] says whether it can run here.
///
/// The features of the host are found by detection alone; a named target has a fixed set, so that what is generated for it is the
/// same on every machine.
#[derive(Clone)]
pub struct Target {
    /// Compiles functions as they are written. Tile kernels are emitted in the order they are meant to run in, loads beside their uses;
    /// the mid-end would gather loads at the head of a block, out of registers, and carry constants across loops.
    isa: Arc<dyn TargetIsa>,
    /// Compiles functions after Cranelift's mid-end: for plain loops, whose addresses it moves out.
    optimising: Arc<dyn TargetIsa>,
    lanes: usize,
    fma: bool,
    host: bool,
    wide: Option<clif_wide::Features>,
}

/// Why there is no such target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The host lacks something that kernels need.
    #[error("this machine can't run kernels: {reason}")]
    Host {
        /// What is missing.
        reason: String,
    },
    /// A triple that can't be parsed or has no backend.
    #[error("unknown target `{triple}`: {reason}; try `x86_64-unknown-linux-gnu` or `aarch64-unknown-linux-gnu`")]
    Unknown {
        /// The triple.
        triple: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A lane count that the target's code generator does not have.
    #[error("no code generator for {lanes} lanes of f32 on {triple}; use {known}")]
    Lanes {
        /// The lane count asked for.
        lanes: usize,
        /// The target.
        triple: String,
        /// The lane counts there are.
        known: String,
    },
}

fn flags(level: &str) -> Result<settings::Flags, settings::SetError> {
    let mut flags = settings::builder();
    flags.set("opt_level", level)?;
    flags.set("is_pic", "false")?;
    flags.set("enable_probestack", "false")?;
    flags.set("unwind_info", "false")?;
    // The verifier runs on every function all the same: see `codegen`.
    flags.set("enable_verifier", "true")?;
    Ok(settings::Flags::new(flags))
}

impl Target {
    /// This machine.
    ///
    /// # Errors
    /// [`TargetError::Host`] if it has no backend or lacks SSE4.1 (x86-64).
    pub fn host() -> Result<Target, TargetError> {
        let host = |reason: String| TargetError::Host { reason };
        let builder = cranelift_native::builder().map_err(|reason| host(reason.to_owned()))?;
        let finish = |level| {
            let flags = flags(level).map_err(|error| host(error.to_string()))?;
            builder.finish(flags).map_err(|error| host(error.to_string()))
        };
        let target = Target::from_isas(finish("none")?, finish("speed")?, true);
        if target.isa.triple().architecture == Architecture::X86_64 && !target.has("has_sse41") {
            return Err(host("it has no SSE4.1".to_owned()));
        }
        Ok(target.widest(clif_wide::Features::detect()))
    }

    /// The same target with what is known of its wide vectors, and as many lanes as they have.
    fn widest(mut self, wide: Option<clif_wide::Features>) -> Target {
        self.wide = wide;
        self.lanes = self.lane_counts().last().copied().unwrap_or(4);
        self
    }

    /// A target by its triple, with a fixed set of features: AVX-512 on x86-64, vectors of 4 lanes unless [`Target::with_lanes`] asks
    /// for more. Code of up to 8 lanes runs where there is AVX2 and FMA.
    ///
    /// # Errors
    /// [`TargetError::Unknown`] if there is no backend for it.
    pub fn named(triple: &str) -> Result<Target, TargetError> {
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
        let mut target = Target::from_isas(finish("none")?, finish("speed")?, false);
        target.wide = x86.then(clif_wide::Features::cross_avx512);
        Ok(target)
    }

    fn from_isas(isa: OwnedTargetIsa, optimising: OwnedTargetIsa, host: bool) -> Target {
        let mut target = Target { isa, optimising, lanes: 4, fma: true, host, wide: None };
        if target.isa.triple().architecture == Architecture::X86_64 {
            target.fma = target.has("has_fma");
        }
        target
    }

    fn has(&self, feature: &str) -> bool {
        self.isa.isa_flags().iter().any(|flag| flag.name == feature && flag.as_bool() == Some(true))
    }

    /// The same target with code of another lane count.
    ///
    /// # Errors
    /// [`TargetError::Lanes`] if the target has no such code generator.
    pub fn with_lanes(mut self, lanes: usize) -> Result<Target, TargetError> {
        if !self.lane_counts().contains(&lanes) {
            let known: Vec<String> = self.lane_counts().iter().map(ToString::to_string).collect();
            return Err(TargetError::Lanes { lanes, triple: self.triple(), known: known.join(", ") });
        }
        self.lanes = lanes;
        // A foreign target's code of 8 lanes is for any machine with AVX2.
        if lanes <= 8 && !self.host {
            self.wide = self.wide.map(clif_wide::Features::without_avx512);
        }
        Ok(self)
    }

    /// The lane counts that code can be generated for: 4 everywhere, 8 with AVX2 and FMA, 16 with AVX-512.
    pub fn lane_counts(&self) -> &'static [usize] {
        match self.wide {
            None => &[4],
            Some(features) if features.avx512() => &[4, 8, 16],
            Some(_) => &[4, 8],
        }
    }

    /// Vector registers of the code: what register tiles are sized for.
    pub fn vector_registers(&self) -> usize {
        let many = self.wide_features().is_some_and(clif_wide::Features::avx512);
        if many || self.isa.triple().architecture != Architecture::X86_64 { 32 } else { 16 }
    }

    /// The features of wide code, if that is what the target's code is: Cranelift's own backends stop at 128 bits.
    pub(crate) fn wide_features(&self) -> Option<clif_wide::Features> {
        self.wide.filter(|_| self.lanes > 4)
    }

    /// Lanes of `f32` in a vector.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Whether the target has fused multiply-add; without it a product is rounded before it is added.
    pub fn has_fma(&self) -> bool {
        self.fma
    }

    /// Whether the code can run on this machine.
    pub fn is_host(&self) -> bool {
        self.host
    }

    /// The target triple.
    pub fn triple(&self) -> String {
        self.isa.triple().to_string()
    }

    /// The Cranelift target that runs the mid-end.
    pub(crate) fn optimising_isa(&self) -> &dyn TargetIsa {
        &*self.optimising
    }

    /// The Cranelift target behind it.
    pub(crate) fn isa(&self) -> &dyn TargetIsa {
        &*self.isa
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generator = match self.wide_features() {
            None => "cranelift",
            Some(features) if features.avx512() => "clif-wide, avx512",
            Some(_) => "clif-wide, avx2",
        };
        let fma = if self.fma { ", fma" } else { "" };
        write!(f, "{}, {} lanes{fma} ({generator})", self.triple(), self.lanes)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}
