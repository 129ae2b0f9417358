//! Which kernel a call takes, by its lengths.
//!
//! A graph has a prefill kernel, which takes calls of any lengths, and for the most part a decode kernel, which takes those of few queries
//! in less time. The code of the decode kernel is made when it is first called for. Where calls of few queries cost less by a form of the
//! graph of their own, the decode kernel computes that. Short calls may be shared: prefill computes whole vectors of queries, and one query
//! more costs it as much as a vector; decode takes what is left.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rhumb_ir::Axis;

use crate::codegen::{self, Clif, CodegenError, MachineCode};
use crate::machine::Machine;
use crate::plan::{Attention, NoDecode, Plan, PlanError, Problem};
use crate::target::Target;

/// How much decode may cost of what prefill does by the estimate, for one query: threads share its keys, which are read in the pages where
/// they lie.
const OF_ONE: f64 = 1.5;
/// As `OF_ONE`, for queries that fill more than a vector: the loads that wide query tiles save are worth less where a core does one wide
/// multiply-add a cycle.
const OF_MORE: f64 = 1.07;
/// Query tiles of prefill up to which the two are compared: what one more query costs for a tile of its own matters less and less.
const QUERY_TILES: usize = 3;
/// What two kernels that share a call may cost of what one of them does alone, by the estimate.
const SHARED: f64 = 0.94;
/// Cycles of one more task, which all keys of such a call must save together.
const TASK: f64 = 1000.0;
/// The most bytes of `f32` that keys and values of such a call would take: those of more do not stay in the cache, and both kernels read them.
const SHARED_BYTES: usize = 8 << 20;

/// Kernels that calls may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kernels {
    /// For each call the one that costs less.
    #[default]
    Cheapest,
    /// The prefill kernel alone.
    Prefill,
    /// The decode kernel for calls of any lengths, where the graph has one.
    Decode,
}

impl Kernels {
    /// All choices.
    pub const ALL: [Kernels; 3] = [Kernels::Cheapest, Kernels::Prefill, Kernels::Decode];

    /// The name that the `rhumb` command uses.
    pub fn name(self) -> &'static str {
        match self {
            Kernels::Cheapest => "cheapest",
            Kernels::Prefill => "prefill",
            Kernels::Decode => "decode",
        }
    }
}

/// The decode kernel of a graph.
#[derive(Clone, Debug)]
pub struct DecodeKernel {
    /// Its plan.
    pub plan: Plan,
    /// What it is compiled for.
    pub target: Target,
    /// The numbers of queries that it takes, in ascending order; none if it takes any. There may be gaps: a prefill kernel computes whole
    /// vectors of queries, so that one more than fills them is as much as many.
    pub queries: Option<Vec<RangeInclusive<usize>>>,
    /// The calls whose last queries it takes.
    pub tails: Tails,
    /// Which form of the graph it computes.
    pub form: Form,
}

/// Calls that two kernels share: prefill takes the queries that fill whole vectors, and decode the few that are left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tails {
    /// The numbers of queries of such calls, also of some that decode takes whole where they have more keys, and the fewest keys of each.
    pub queries: BTreeMap<usize, usize>,
    /// Prefill takes the most queries that are a multiple of this.
    pub vector: usize,
}

impl Tails {
    /// The first query that decode takes of a call of these lengths, if the two share it.
    fn first(&self, attention: &Attention, length: impl Fn(Axis) -> usize) -> Option<usize> {
        let (queries, keys) = (length(attention.query), length(attention.key));
        let tiles = attention.outer.iter().map(|axis| length(*axis)).fold(1, usize::saturating_mul);
        let elements = attention.query_length() + attention.value_length();
        let rows = (tiles / attention.queries_per_position()).saturating_mul(keys);
        let fits = rows.saturating_mul(elements * size_of::<f32>()) <= SHARED_BYTES;
        let fewest = self.queries.get(&queries)?;
        (fits && keys >= *fewest).then(|| queries - queries % self.vector.max(1))
    }
}

/// Which calls they are.
impl fmt::Display for Tails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vector, queries) = (self.vector, ranges(self.queries.keys().copied()));
        write!(f, "what is past a multiple of {vector} in those of {} whose keys are enough ", Listed(&queries))?;
        let fewest = || self.queries.values().copied();
        let (least, most) = (fewest().min().unwrap_or(0), fewest().max().unwrap_or(0));
        write!(f, "({least} to {most}) and fit in {} MiB with their values", SHARED_BYTES >> 20)
    }
}

/// The form of a graph that a decode kernel computes. It prints, with the price of the one that is not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// That of the prefill kernel: there is no other.
    Only,
    /// One of its own, which takes these cycles for a key in a call of one query.
    Own {
        /// Its cycles.
        cycles: f64,
        /// Those that the form of the prefill kernel would take.
        shared: f64,
    },
    /// That of the prefill kernel, which takes these cycles for a key in a call of one query.
    Shared {
        /// Its cycles.
        cycles: f64,
        /// Those that the other form would take.
        own: f64,
    },
    /// That of the prefill kernel: the other, which rewriting has for few queries, has no plan.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Nothing, where there is one form.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Only => Ok(()),
            Form::Own { cycles, shared } => writeln!(
                f,
                "  the form for few queries: {cycles:.1} cycles a key for one query, where that for many takes {shared:.1}"
            ),
            Form::Shared { cycles, own } => writeln!(
                f,
                "  the form for many queries: {cycles:.1} cycles a key for one query, where that for few takes {own:.1}"
            ),
            Form::Refused { reason } => {
                writeln!(f, "  the form for many queries; that for few has no plan: {reason}")
            }
        }
    }
}

impl DecodeKernel {
    /// The decode kernel of a problem that has a prefill plan, for one of the candidates of a target; `own` is the problem of the form for few
    /// queries, if that is another.
    ///
    /// # Errors
    /// [`NoDecode`] says why there is none.
    pub(crate) fn of(
        (problem, prefill): (&Arc<Problem>, &Plan),
        own: Option<&Result<Arc<Problem>, PlanError>>,
        target: &Target,
        kernels: Kernels,
    ) -> Result<DecodeKernel, NoDecode> {
        let mut refused = NoDecode::NotAsked;
        if kernels == Kernels::Prefill {
            return Err(refused);
        }
        // The widest vectors come first.
        for target in target.candidates() {
            match of_form(problem, own, target.machine()) {
                Ok((plan, form)) => {
                    let Some((queries, tails)) = (kernels == Kernels::Cheapest).then(|| preferred(&plan, prefill))
                    else {
                        return Ok(DecodeKernel { plan, target, queries: None, tails: Tails::default(), form });
                    };
                    return if queries.is_empty() && tails.queries.is_empty() {
                        Err(NoDecode::Costs)
                    } else {
                        Ok(DecodeKernel { plan, target, queries: Some(queries), tails, form })
                    };
                }
                Err(reason) => refused = reason,
            }
        }
        Err(refused)
    }

    /// The first query that it takes of a call: 0 where it takes the whole call, and none where the prefill kernel does. `length` tells the
    /// lengths of dynamic axes.
    pub fn takes_from(&self, length: impl Fn(Axis) -> usize) -> Option<usize> {
        let (Some(ranges), Some(attention)) = (&self.queries, &self.plan.attention) else { return Some(0) };
        let graph = &self.plan.graph;
        let length = |axis: Axis| graph.static_extent(axis).map_or_else(|| length(axis), |length| length as usize);
        // Without queries there is nothing to compute, by either.
        let queries = length(attention.query).max(1);
        let whole = ranges.iter().any(|range| range.contains(&queries)).then_some(0);
        self.tails.first(attention, length).or(whole)
    }

    /// Its machine code; with `disassemble`, with the disassembly.
    ///
    /// # Errors
    /// [`CodegenError`] if an op can't be emitted.
    pub fn compile(&self, disassemble: bool) -> Result<MachineCode, CodegenError> {
        codegen::assemble(&self.emit()?, &self.target, disassemble)
    }

    /// Its CLIF functions.
    ///
    /// # Errors
    /// [`CodegenError`] if an op can't be emitted.
    pub fn emit(&self) -> Result<Clif, CodegenError> {
        codegen::emit(&self.plan, &self.target)
    }
}

/// The numbers of queries for which a plan of the decode schedule is preferred to one of prefill, and those for which it is for the last
/// queries.
fn preferred(decode: &Plan, prefill: &Plan) -> (Vec<RangeInclusive<usize>>, Tails) {
    let (Some(few), Some(many)) = (&decode.attention, &prefill.attention) else { return Default::default() };
    let (heads, packed) = (few.queries_per_position(), many.queries_per_position());
    // Prefill may have query tiles of their own for heads that decode packs.
    let tiles = heads as f64 / packed as f64;
    let by_prefill = |queries: usize| tiles * prefill.key_cycles(queries * packed);
    let by_decode = |queries: usize| decode.key_cycles(queries * heads);
    let most = QUERY_TILES * prefill.tiling.queries().div_ceil(packed);
    let lanes = prefill.machine.lanes;
    let costs_less = |queries: &usize| {
        let most = match *queries {
            1 => OF_ONE,
            queries if queries * packed <= lanes => 1.0,
            _ => OF_MORE,
        };
        by_decode(*queries) <= most * by_prefill(*queries)
    };
    let taken = ranges((1..=most).filter(costs_less));
    // The fewest queries whose rows fill vectors.
    let vector = (1..=lanes).find(|queries| (queries * packed).is_multiple_of(lanes)).unwrap_or(lanes);
    let shared = |queries: usize| {
        let (rest, alone) = (queries % vector, by_prefill(queries).min(by_decode(queries)));
        let by_both = by_prefill(queries - rest) + by_decode(rest) + decode.made_cycles();
        let shares = rest > 0 && queries > vector && by_both <= SHARED * alone;
        shares.then(|| (queries, (TASK / (alone - by_both)).ceil() as usize))
    };
    let same_tasks = (few.query, few.key, &few.outer, few.packed) == (many.query, many.key, &many.outer, many.packed);
    let tails = if same_tasks && decode.writes_rows_alone() && prefill.writes_rows_alone() {
        Tails { queries: (1..=most).filter_map(shared).collect(), vector }
    } else {
        Tails::default()
    };
    (taken, tails)
}

/// Ascending numbers as ranges.
fn ranges(numbers: impl Iterator<Item = usize>) -> Vec<RangeInclusive<usize>> {
    let mut ranges: Vec<RangeInclusive<usize>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if last.end() + 1 == number => *last = *last.start()..=number,
            _ => ranges.push(number..=number),
        }
    }
    ranges
}

/// The plan of the form that costs less for one query; of equals, of the form that prefill has.
fn of_form(
    shared: &Arc<Problem>,
    own: Option<&Result<Arc<Problem>, PlanError>>,
    machine: Machine,
) -> Result<(Plan, Form), NoDecode> {
    let shared = Plan::decode(shared, machine);
    let own = match own {
        None => return Ok((shared?, Form::Only)),
        Some(Err(error)) => return Ok((shared?, Form::Refused { reason: error.to_string() })),
        Some(Ok(own)) => Plan::decode(own, machine),
    };
    match (own, shared) {
        (Ok(own), Ok(shared)) => {
            let [of_own, of_shared] = [&own, &shared].map(Plan::step_cycles);
            Ok(if of_own < of_shared {
                (own, Form::Own { cycles: of_own, shared: of_shared })
            } else {
                (shared, Form::Shared { cycles: of_shared, own: of_own })
            })
        }
        (Ok(own), Err(_)) => {
            let cycles = own.step_cycles();
            Ok((own, Form::Own { cycles, shared: f64::INFINITY }))
        }
        (Err(reason), shared) => Ok((shared?, Form::Refused { reason: reason.to_string() })),
    }
}

/// The calls that it takes.
impl fmt::Display for DecodeKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(attention) = &self.plan.attention else { return Ok(()) };
        let query = &self.plan.graph.axis(attention.query).name;
        let Some(ranges) = &self.queries else { return write!(f, "calls of any number of queries") };
        if !ranges.is_empty() {
            write!(f, "calls of {} along `{query}`", Listed(ranges))?;
        }
        match (ranges.is_empty(), self.tails.queries.is_empty()) {
            (_, true) => Ok(()),
            (false, false) => write!(f, ", and {}", self.tails),
            (true, false) => write!(f, "{} along `{query}`", self.tails),
        }
    }
}

/// Ranges of numbers, one after the other.
struct Listed<'r>(&'r [RangeInclusive<usize>]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, range) in self.0.iter().enumerate() {
            let (from, to) = (range.start(), range.end());
            f.write_str(if number == 0 { "" } else { ", " })?;
            if from == to { write!(f, "{from}") } else { write!(f, "{from} to {to}") }?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rhumb_plugins::{Alibi, Attention, Registry, lower};

    use super::{DecodeKernel, Form, Kernels, Plan, PlanError, Problem, RangeInclusive, Tails, Target, preferred};
    use crate::machine::Machine;
    use crate::problem::recognize;
    use crate::rewrite::{RewriteOptions, fuse};

    fn ranges(attention: &Attention, machine: Machine) -> Vec<RangeInclusive<usize>> {
        let problem = problem(attention);
        let prefill = Plan::new(&problem, machine).expect("a plan");
        preferred(&Plan::decode(&problem, machine).expect("a plan"), &prefill).0
    }

    /// The plan that a form of its own comes to beside the form of the prefill kernel, and which was taken.
    fn form(attention: &Attention, own: Option<&Result<Arc<Problem>, PlanError>>) -> DecodeKernel {
        let target = Target::named("x86_64-unknown-linux-gnu").expect("a target");
        let problem = problem(attention);
        let prefill = Plan::new(&problem, target.machine()).expect("a plan");
        DecodeKernel::of((&problem, &prefill), own, &target, Kernels::Decode).expect("a kernel")
    }

    fn problem(attention: &Attention) -> Arc<Problem> {
        let lowered = lower(&attention.build().expect("a graph"), &Registry::standard()).expect("lowers");
        let fused = fuse(&lowered, &RewriteOptions::default()).expect("fuses");
        Arc::new(recognize(fused.graph()).expect("a problem"))
    }

    /// Whatever rewriting takes for cheaper, the plans tell: a form that takes more cycles, or as many, is not taken, and one without a plan
    /// neither. The plan is that of the shared form then, and says so.
    #[test]
    fn a_form_for_few_queries_is_taken_where_its_plan_costs_less() {
        let plain = Attention::heads(4).head_dim(64);
        let more = plain.clone().softcap(30.0);
        let own = |attention: &Attention| Some(Ok(problem(attention)));

        let cheaper = form(&more, own(&plain).as_ref());
        let Form::Own { cycles, shared } = cheaper.form else { panic!("{:?}", cheaper.form) };
        assert!(cycles < shared && cheaper.plan.graph == problem(&plain).graph, "{}", cheaper.form);

        let dearer = form(&plain, own(&more).as_ref());
        let Form::Shared { cycles, own: of_own } = dearer.form else { panic!("{:?}", dearer.form) };
        assert!(cycles < of_own && dearer.plan.graph == problem(&plain).graph);
        let told = dearer.form.to_string();
        assert!(
            told.starts_with("  the form for many queries: ") && told.contains("where that for few takes"),
            "{told}"
        );
        let equal = form(&plain, own(&plain).as_ref());
        assert!(matches!(equal.form, Form::Shared { cycles, own } if cycles == own), "{}", equal.form);

        // Longer rows than decode kernels take, and a form that no kernel computes.
        let long = form(&plain, own(&Attention::heads(4).head_dim(2048)).as_ref());
        let reason = "axis `d` has 2048 elements, and decode kernels take up to 256";
        assert_eq!(long.form, Form::Refused { reason: reason.to_owned() });
        let error = PlanError::NotAttention { op: "%0 = iota q".to_owned(), reason: "it has no keys".to_owned() };
        let refused = form(&plain, Some(Err(error.clone())).as_ref());
        assert_eq!(refused.form, Form::Refused { reason: error.to_string() });
        let told = refused.form.to_string();
        assert!(
            told.starts_with("  the form for many queries; that for few has no plan: ") && told.contains("no keys")
        );
        assert_eq!(refused.plan, form(&plain, None).plan);
        // Where the shared form has no plan, the other is all there is.
        let only = form(&Attention::heads(4).head_dim(2048), own(&plain).as_ref());
        assert!(matches!(only.form, Form::Own { shared, .. } if shared == f64::INFINITY), "{}", only.form);
    }

    #[test]
    fn whole_vectors_of_queries_are_for_prefill() {
        let of = |queries: usize, ranges: &[RangeInclusive<usize>]| ranges.iter().any(|range| range.contains(&queries));
        let machine = Machine::of(16, 32);
        let ranges_of = |attention: Attention| ranges(&attention, machine);
        let single = ranges_of(Attention::heads(8).head_dim(64));
        assert_eq!(
            [1, 8, 16, 17, 20, 32, 48].map(|queries| of(queries, &single)),
            [true, true, false, true, true, false, false]
        );
        assert!(single.windows(2).all(|pair| pair[0].end() + 1 < *pair[1].start()), "{single:?}");
        // 32 heads share keys and values: two vectors of rows even for one query, whose keys threads share.
        let shared = ranges_of(Attention::heads(32).head_dim(128).kv_heads(1));
        assert_eq!([1, 2, 8].map(|queries| of(queries, &shared)), [true, false, false]);
        // Prefill has a tile for each head, whose bias is its own.
        let biased = ranges_of(Attention::heads(32).head_dim(128).kv_heads(1).scheme(Alibi::new()));
        assert_eq!([1, 8, 48].map(|queries| of(queries, &biased)), [true, true, false]);
    }

    /// Few queries past whole vectors are for decode, where keys are many enough for one more task and few enough for the cache.
    #[test]
    fn what_is_past_whole_vectors_is_for_decode() {
        let target = Target::named("x86_64-unknown-linux-gnu").expect("a target");
        let machine = Machine::of(16, 32);
        let of = |attention: &Attention| {
            let problem = problem(attention);
            let prefill = Plan::new(&problem, machine).expect("a plan");
            let plan = Plan::decode(&problem, machine).expect("a plan");
            let (queries, tails) = preferred(&plan, &prefill);
            DecodeKernel { plan, target: target.clone(), queries: Some(queries), tails, form: Form::Only }
        };
        let from = |kernel: &DecodeKernel, queries: usize, keys: usize| {
            let graph = &kernel.plan.graph;
            kernel.takes_from(|axis| match graph.axis(axis).name.as_str() {
                "q" => queries,
                "k" => keys,
                _ => 1,
            })
        };
        let kernel = of(&Attention::heads(8).head_dim(64));
        let taken = [1, 32, 33, 48, 65, 72, 1000].map(|queries| from(&kernel, queries, 100));
        assert_eq!(taken, [Some(0), None, Some(32), None, Some(64), None, None]);
        // 8 heads of 128 elements are 4 KiB a key.
        let fewest = kernel.tails.queries[&65];
        assert!((16..64).contains(&fewest), "{fewest}");
        let taken = [fewest - 1, fewest, 2048, 2049].map(|keys| from(&kernel, 65, keys));
        assert_eq!(taken, [None, Some(64), Some(64), None]);
        assert_eq!(from(&kernel, 33, 2049), Some(0), "as without the other kernel");
        let told = kernel.to_string();
        assert!(told.contains(", and what is past a multiple of 16 in those of 17 to "), "{told}");
        // Rows of two heads fill vectors; where heads have tiles of their own in prefill alone, tasks are not the same.
        let packed = of(&Attention::heads(8).head_dim(64).kv_heads(4));
        assert_eq!((packed.tails.vector, from(&packed, 17, 100)), (8, Some(16)));
        let biased = of(&Attention::heads(8).head_dim(64).kv_heads(4).scheme(Alibi::new()));
        assert_eq!(biased.tails, Tails::default());
    }
}
