//! Holds the before/after example of a scheme's documentation against what lowering makes.

use rhumb_ir::{Elem, GraphBuilder, Hook, Site, Verified};

use crate::lower::lower;
use crate::registry::Registry;
use crate::scheme::{PositionScheme, SchemeContext};

/// Applies the scheme at its hooks, in a graph of 2 heads with the values `%q`, `%k`, `%score`, `%i` and `%j` (indices of queries and
/// keys, which are the positions too) and `%length`.
fn graph(head_dim: u32, make: impl for<'g> Fn(&SchemeContext<'g>) -> Box<dyn PositionScheme>) -> Verified {
    let builder = GraphBuilder::new("example");
    let (h, q, k) = (builder.axis_of("h", 2), builder.axis("q"), builder.axis("k"));
    let d = builder.axis_of("d", head_dim);
    let (query, key) = (builder.input("q", Elem::F32, [h, q, d]), builder.input("k", Elem::F32, [h, k, d]));
    let score = builder.input("score", Elem::F32, [h, q, k]);
    let (i, j) = (builder.iota(q).label("i"), builder.iota(k).label("j"));
    let (i_value, j_value, length) = (i.value(), j.value(), builder.size(k).label("length").value());
    let site = Site {
        query: q,
        key: k,
        head: Some(h),
        dim: d,
        q_pos: i_value,
        k_pos: j_value,
        q_index: i_value,
        k_index: j_value,
        length,
    };
    let scheme = make(&SchemeContext::new(&builder, site));
    let site = builder.site(site);
    let (name, attrs) = (scheme.name(), || scheme.attributes());
    for hook in scheme.hooks() {
        match hook {
            Hook::Query => {
                builder.output("q_out", builder.scheme(name, *hook, query, site, attrs()).label("q_out"), [h, q, d]);
            }
            Hook::Key => {
                builder.output("k_out", builder.scheme(name, *hook, key, site, attrs()).label("k_out"), [h, k, d]);
            }
            Hook::Score => {
                builder.output("out", builder.scheme(name, *hook, score, site, attrs()).label("out"), [h, q, k]);
            }
            Hook::Mask => {
                let mask = builder.scheme_mask(name, site, attrs()).label("mask");
                builder.output("out", score.mask(mask), [h, q, k]);
            }
        }
    }
    builder.finish().unwrap_or_else(|error| panic!("{error}"))
}

/// Compares the two `text` blocks at the end of a file's documentation with the scheme ops of a graph and with what they lower to.
pub(crate) fn check(source: &str, head_dim: u32, make: impl for<'g> Fn(&SchemeContext<'g>) -> Box<dyn PositionScheme>) {
    let graph = graph(head_dim, make);
    let lowered = lower(&graph, &Registry::standard()).unwrap_or_else(|error| panic!("{error}"));
    let lines = |graph: &Verified| -> Vec<String> { graph.values().map(|value| graph.line(value)).collect() };
    let (before, after) = (lines(&graph), lines(&lowered));
    let schemes: Vec<&String> = before.iter().filter(|line| line.contains("= scheme ")).collect();
    let mut made: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
    // What uses a mask is no part of the scheme.
    let results = ["%q_out =", "%k_out =", "%out =", "%mask ="];
    let is_result = |line: &&String| results.iter().any(|result| line.starts_with(result));
    made.truncate(made.iter().rposition(is_result).map_or(0, |last| last + 1));

    let mut actual = String::from("//! ```text\n");
    for line in schemes {
        actual += &format!("//! {line}\n");
    }
    actual += "//! ```\n//! becomes\n//! ```text\n";
    for line in made {
        actual += &format!("//! {line}\n");
    }
    actual += "//! ```\n";
    assert!(source.contains(&actual), "the documentation should have\n{actual}");
}
