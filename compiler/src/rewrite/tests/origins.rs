//! Ops that rewriting brought have the rule that brought them.

use std::collections::BTreeSet;

use rhumb_ir::Op;

use super::graphs::usual;
use crate::rewrite::fold::FOLD;
use crate::rewrite::{Regime, RewriteOptions, fuse, origins, rules};

#[test]
fn ops_that_rewriting_brought_have_a_rule() {
    let options = RewriteOptions::default();
    let known: BTreeSet<&str> = rules().iter().map(|rule| rule.name).chain([FOLD]).collect();
    for (name, lowered) in usual() {
        let fused = fuse(&lowered, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        let forms = [(Regime::ManyQueries, Some(fused.graph())), (Regime::FewQueries, fused.few_queries())];
        for (regime, graph) in forms {
            let origins = origins(&lowered, &options, regime).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(origins.len(), graph.map_or(0, |graph| graph.nodes().len()), "{name}");
            let Some(graph) = graph else { continue };
            let changed = graph.to_string() != lowered.to_string();
            assert!(!changed || origins.iter().any(Option::is_some), "{name}: nothing came of the rules");
            for (value, origin) in graph.values().zip(&origins) {
                let op = graph.op(value);
                if let Some(rule) = origin {
                    // No rule makes an input or a table.
                    assert!(known.contains(rule.as_str()), "{name}: `{rule}` is no rule");
                    assert!(!matches!(op, Op::Input { .. } | Op::Table { .. }), "{name}: {}", graph.line(value));
                }
            }
        }
    }
}
