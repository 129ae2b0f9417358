//! The choice among a target's candidates for a graph.

use std::fmt;
use std::sync::Arc;

use crate::plan::{Estimate, Plan, PlanError, Problem};
use crate::target::Target;

/// A candidate and what the graph's plan would cost there.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// The candidate: nothing is left to choose.
    pub target: Target,
    /// The estimate for its plan.
    pub estimate: Estimate,
}

/// The candidate that a graph is compiled for, and those it was chosen from. It prints, with the reason.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The cheapest first, never empty.
    ranked: Vec<Ranked>,
    pinned: bool,
    attention: bool,
}

impl Choice {
    /// The candidate that the graph is compiled for.
    pub fn target(&self) -> &Target {
        &self.ranked[0].target
    }

    /// All candidates, the cheapest first; of those that cost the same, in the order of [`Target::candidates`].
    pub fn ranked(&self) -> &[Ranked] {
        &self.ranked
    }

    /// Whether there was nothing to choose because the [target](Target::is_pinned) was pinned.
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// Why this one, in one line.
    pub fn reason(&self) -> String {
        let first = &self.ranked[0];
        if self.pinned {
            return "pinned".to_owned();
        }
        let Some(next) = self.ranked.get(1) else { return "the only candidate".to_owned() };
        if !self.attention {
            return "no attention to estimate; the widest is taken".to_owned();
        }
        let code = next.target.machine();
        if order(first) == order(next) {
            return format!("it costs what {code} costs, and is preferred");
        }
        // The part in which the two differ most, for or against.
        let apart = |n: usize| next.estimate.parts()[n].1 - first.estimate.parts()[n].1;
        let most = (0..first.estimate.parts().len()).max_by(|a, b| apart(*a).total_cmp(&apart(*b))).unwrap_or(0);
        format!(
            "{:.2} cycles a pair where {code} takes {:.2}; the largest difference is in {}",
            first.estimate.cycles(),
            next.estimate.cycles(),
            first.estimate.parts()[most].0
        )
    }
}

/// Costs that differ by less than a thousandth of a cycle are the same.
fn order(ranked: &Ranked) -> u64 {
    (ranked.estimate.cycles() * 1e3).round() as u64
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "for {}: {}", self.target(), self.reason())?;
        for (n, Ranked { target, estimate }) in self.ranked.iter().enumerate() {
            writeln!(f, "  {}. {}: {estimate}", n + 1, target.machine())?;
        }
        Ok(())
    }
}

/// Plans a problem for all candidates of a target, and takes the cheapest.
///
/// # Errors
/// As [`Plan::new`].
pub fn choose(problem: &Arc<Problem>, target: &Target) -> Result<(Plan, Choice), PlanError> {
    let mut made = Vec::new();
    for target in target.candidates() {
        let plan = Plan::new(problem, target.machine())?;
        let estimate = Estimate::of(&plan);
        made.push((plan, Ranked { target, estimate }));
    }
    // The order of those that cost the same is kept.
    made.sort_by_key(|(_, ranked)| order(ranked));
    let (mut plans, ranked): (Vec<Plan>, Vec<Ranked>) = made.into_iter().unzip();
    let plan = plans.swap_remove(0);
    let attention = plan.attention.is_some();
    Ok((plan, Choice { ranked, pinned: target.is_pinned(), attention }))
}

#[cfg(test)]
mod tests {
    use clif_wide::Features;
    use rhumb_ir::{Graph, Verified};
    use rhumb_plugins::{Alibi, Attention, Causal, Registry, Rope, lower};

    use super::*;
    use crate::machine::Backend;
    use crate::problem::recognize;
    use crate::rewrite::{RewriteOptions, fuse};

    fn choice(graph: &Verified, target: &Target) -> Choice {
        let lowered = lower(graph, &Registry::standard()).expect("lowers");
        let fused = fuse(&lowered, &RewriteOptions::default()).expect("fuses");
        let problem = Arc::new(recognize(fused.graph()).expect("a problem"));
        choose(&problem, target).expect("a plan").1
    }

    /// Hosts with AVX-512, with AVX2, and with neither.
    fn hosts() -> [Target; 3] {
        [Some(Features::cross_avx512()), Some(Features::cross_avx2()), None].map(Target::imagined)
    }

    fn prefill() -> Verified {
        Attention::heads(8).head_dim(64).scheme(Alibi::new()).scheme(Causal).build().expect("a graph")
    }

    /// This many queries.
    fn of_queries(count: u32) -> Verified {
        of_fixed(&Attention::heads(8).head_dim(64), count)
    }

    fn of_fixed(attention: &Attention, queries: u32) -> Verified {
        let graph = attention.build().expect("a graph").to_string();
        Graph::parse(&graph.replace("axis q = ?", &format!("axis q = {queries}"))).expect("a graph")
    }

    #[test]
    fn long_sequences_take_the_widest_vectors() {
        let graph = prefill();
        let found: Vec<String> = hosts().iter().map(|host| choice(&graph, host).to_string()).collect();
        insta::assert_snapshot!(found.concat());
        assert_eq!(hosts().map(|host| choice(&graph, &host).to_string()).to_vec(), found);
    }

    #[test]
    fn few_queries_take_vectors_that_they_fill() {
        let [avx512, avx2, _] = hosts();
        let few = choice(&of_queries(5), &avx512);
        insta::assert_snapshot!(few);
        assert!(few.reason().ends_with("the largest difference is in idle lanes"), "{}", few.reason());
        assert_eq!((few.target().machine().lanes, choice(&of_queries(5), &avx2).target().machine().lanes), (8, 8));
        assert_eq!(choice(&of_queries(197), &avx512).target().machine().lanes, 16);
    }

    /// As measured: with 512 keys to rotate, one query takes twice as long by 4 lanes as by 8 or 16.
    #[test]
    fn keys_are_rotated_for_few_queries_by_wide_vectors() {
        let [avx512, avx2, _] = hosts();
        for queries in [1, 3, 8] {
            let graph = of_fixed(&Attention::heads(8).head_dim(64).scheme(Rope::new()), queries);
            for host in [&avx512, &avx2] {
                let lanes = choice(&graph, host).target().machine().lanes;
                assert!(lanes >= 8, "{queries} queries: {lanes} lanes");
            }
        }
    }

    #[test]
    fn costs_of_lanes_and_registers_are_those_of_the_code() {
        let [avx512, avx2, sse] = hosts();
        let graph = prefill();
        let cycles = |target: &Target, lanes| {
            choice(&graph, &target.clone().with_lanes(lanes).expect("lanes")).ranked()[0].estimate.cycles()
        };
        assert!(cycles(&avx512, 16) < cycles(&avx512, 8) && cycles(&avx512, 8) < cycles(&avx512, 4));
        assert!(cycles(&avx2, 4) < cycles(&sse, 4), "Cranelift copies");
    }

    #[test]
    fn what_is_pinned_is_taken() {
        let [avx512, avx2, sse] = hosts();
        let graph = prefill();
        let pinned = avx512.clone().with_lanes(4).expect("lanes");
        assert_eq!(pinned.machine().backend, Backend::Wide);
        let second = pinned.with_backend(Backend::Cranelift).expect("a backend");
        let (choice, found) = (choice(&graph, &second), second.candidates().len());
        assert_eq!((choice.target().machine().backend, choice.is_pinned(), found), (Backend::Cranelift, true, 1));
        assert_eq!(choice.reason(), "pinned");
        // In either order.
        let other = avx512.with_backend(Backend::Cranelift).and_then(|target| target.with_lanes(4)).expect("a target");
        assert_eq!(other.to_string(), second.to_string());
        // A backend alone leaves its lanes open.
        let wide = avx2.with_backend(Backend::Wide).expect("a backend");
        assert_eq!(wide.candidates().iter().map(|target| target.machine().lanes).collect::<Vec<_>>(), [8, 4]);
        assert!(!wide.is_pinned());
        sse.clone().with_backend(Backend::Wide).expect_err("no AVX2");
        sse.with_lanes(8).expect_err("no AVX2");
    }

    #[test]
    fn what_has_no_attention_is_not_ranked() {
        let rotation = Attention::heads(2).head_dim(8).scheme(Rope::new()).q_offset(0).key_graph().expect("a graph");
        let [avx512, ..] = hosts();
        let choice = choice(&rotation, &avx512);
        assert_eq!(choice.target().machine().lanes, 16);
        assert_eq!(choice.reason(), "no attention to estimate; the widest is taken");
    }
}
