//! Proofs: how each output of the fused graph follows from the user's, rule by rule.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use egg::{RecExpr, TreeTerm};
use rhumb_ir::{Graph, Op, Verified};

use super::language::{Node, binary_sign, compare_sign};
use super::proof::{Steps, walk};
use super::untimed::untimed;
use super::{FloatClass, RewriteError, RewriteOptions, Saturated, add_graph, rules, saturate};

/// Graphs with more ops have no proof: egg walks proofs recursively.
const MOST_OPS: usize = 1024;

/// Longest printed side of a step, in characters.
const WIDTH: usize = 480;

/// The proofs of all outputs. Prints as a numbered list of steps for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// One proof per output, in order.
    pub proofs: Vec<Proof>,
    /// The same of the form for calls of few queries; none where that is the same form.
    pub few_queries: Vec<Proof>,
}

/// The proof of one output: the user's expression, changed step by step into the fused one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The output.
    pub output: String,
    /// The user's expression.
    pub before: String,
    /// The fused expression.
    pub after: String,
    /// The steps; each changes one part of the expression.
    pub steps: Vec<Step>,
}

/// One application of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule.
    pub rule: String,
    /// The most that the rule may do to floating-point results.
    pub class: FloatClass,
    /// Whether the rule is read from right to left.
    pub backwards: bool,
    /// The part that changes.
    pub before: String,
    /// The form that it becomes.
    pub after: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let few = self.few_queries.iter().map(|proof| ("for few queries, ", proof));
        for (index, (regime, proof)) in self.proofs.iter().map(|proof| ("", proof)).chain(few).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{regime}{proof}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proof { output, before, after, steps } = self;
        writeln!(f, "output \"{output}\": {before}")?;
        for (index, step) in steps.iter().enumerate() {
            let Step { rule, class, backwards, before, after } = step;
            let direction = if *backwards { ", backwards" } else { "" };
            writeln!(f, "{:4}. {rule}{direction} ({class})", index + 1)?;
            writeln!(f, "        {before}")?;
            writeln!(f, "      = {after}")?;
        }
        writeln!(f, "equals: {after}")
    }
}

/// Proves that each output of the fused graph equals the user's, in either form.
///
/// # Errors
/// As [`super::fuse`]; and [`RewriteError::NoProof`] where the e-graph that records proofs reached a limit too early, or the graph is
/// too large for a proof to be read.
pub fn explain(lowered: &Verified, options: &RewriteOptions) -> Result<Explanation, RewriteError> {
    let [proofs, few_queries] = prove(lowered, options)?.map(|proofs| {
        let outputs = lowered.outputs().iter().zip(proofs);
        outputs.map(|(output, proof)| told(lowered, &output.name, &proof)).collect()
    });
    Ok(Explanation { proofs, few_queries })
}

/// A proof as it is read.
fn told(lowered: &Verified, output: &str, proof: &egg::Explanation<Node>) -> Proof {
    let mut steps = Collected { graph: lowered, steps: Vec::new() };
    walk(&mut steps, &mut BTreeSet::new(), &proof.explanation_trees);
    let side = |term: Option<&Rc<TreeTerm<Node>>>, end| {
        term.map_or_else(String::new, |term| print(lowered, Term { proof: term, end }))
    };
    Proof {
        output: output.to_owned(),
        before: side(proof.explanation_trees.first(), End::Initial),
        after: side(proof.explanation_trees.last(), End::Final),
        steps: steps.steps,
    }
}

/// egg's explanations: for each output that of the form for many queries; then those for few, if it is another.
pub(crate) fn prove(
    lowered: &Verified,
    options: &RewriteOptions,
) -> Result<[Vec<egg::Explanation<Node>>; 2], RewriteError> {
    // The proof is of the result of the run without proofs, which is the one that is compiled.
    let Saturated { terms, few_terms, .. } = saturate(lowered, options, false)?;
    let mut proofs = prove_terms(lowered, options, &[terms, few_terms.unwrap_or_default()].concat())?;
    let few = proofs.split_off(lowered.outputs().len());
    Ok([proofs, few])
}

/// egg's explanation for each output, whose fused terms are these; of several forms, one form after the other.
pub(super) fn prove_terms(
    lowered: &Verified,
    options: &RewriteOptions,
    fused: &[RecExpr<Node>],
) -> Result<Vec<egg::Explanation<Node>>, RewriteError> {
    let no_proof = |output: &str| RewriteError::NoProof { output: output.to_owned() };
    if let (true, Some(output)) = (lowered.nodes().len() > MOST_OPS, lowered.outputs().first()) {
        return Err(no_proof(&output.name));
    }
    let mut egraph = saturate(lowered, options, true)?.runner.egraph;
    let originals = original_terms(lowered)?;
    let mut proofs = Vec::with_capacity(fused.len());
    let outputs = lowered.outputs().iter().zip(&originals).cycle();
    for ((output, original), fused) in outputs.zip(fused) {
        let (left, right) = (egraph.add_expr_uncanonical(original), egraph.add_expr_uncanonical(fused));
        untimed(|| egraph.rebuild());
        if egraph.find(left) != egraph.find(right) {
            return Err(no_proof(&output.name));
        }
        proofs.push(egraph.explain_id_equivalence(left, right));
    }
    Ok(proofs)
}

/// The user's term of each output, as written.
pub(super) fn original_terms(lowered: &Verified) -> Result<Vec<RecExpr<Node>>, RewriteError> {
    let mut egraph = egg::EGraph::new(super::facts::Facts::new(lowered));
    let roots = add_graph(&mut egraph, lowered)?;
    Ok(roots.iter().map(|root| egraph.id_to_expr(*root)).collect())
}

/// Collects the steps of a proof.
struct Collected<'a> {
    graph: &'a Graph,
    steps: Vec<Step>,
}

impl Steps for Collected<'_> {
    fn step(&mut self, previous: &TreeTerm<Node>, term: &Rc<TreeTerm<Node>>) {
        let Some(rule) = term.forward_rule.or(term.backward_rule) else { return };
        let (name, rule) = (rule.as_str(), rules().iter().find(|known| known.name == rule.as_str()));
        self.steps.push(Step {
            rule: name.to_owned(),
            // Folding is no row of the tables, and exact.
            class: rule.map_or(FloatClass::Exact, |rule| rule.class),
            backwards: term.forward_rule.is_none(),
            before: print(self.graph, Term { proof: previous, end: End::Final }),
            after: print(self.graph, Term { proof: term, end: End::Initial }),
        });
    }
}

/// The end of a proof that a term is read at.
#[derive(Clone, Copy)]
enum End {
    Initial,
    Final,
}

/// A term to print: what a proof starts from, or what it arrives at.
#[derive(Clone, Copy)]
struct Term<'a> {
    proof: &'a TreeTerm<Node>,
    end: End,
}

impl<'a> Term<'a> {
    fn node(self) -> &'a Node {
        &self.proof.node
    }

    fn child(self, index: usize) -> Option<Term<'a>> {
        let proof = self.proof.child_proofs.get(index)?;
        let proof = match self.end {
            End::Initial => proof.first()?,
            End::Final => proof.last()?,
        };
        Some(Term { proof, end: self.end })
    }
}

/// A term in the notation of mathematics, cut off where it gets long.
fn print(graph: &Graph, term: Term<'_>) -> String {
    let mut text = String::new();
    write(graph, term, false, &mut text);
    if text.chars().count() > WIDTH { text.chars().take(WIDTH).chain(" ...".chars()).collect() } else { text }
}

fn write(graph: &Graph, term: Term<'_>, nested: bool, text: &mut String) {
    if text.len() > 4 * WIDTH {
        return;
    }
    let call = |name: &str, children: &[usize], text: &mut String| write_call(graph, term, (name, children), text);
    let along = |name: &str, child: usize| {
        let mut axis = String::new();
        child_text(graph, term, child, false, &mut axis);
        format!("{name}_{axis}")
    };
    let normalised = |name: &str, text: &mut String| {
        let two = matches!(term.child(3).map(|base| base.node().clone()), Some(Node::Base(rhumb_ir::Base::Two)));
        let sink = !matches!(term.child(2).map(|sink| sink.node().clone()), Some(Node::NoSink));
        let name = along(&format!("{name}{}", if two { "2" } else { "" }), 1);
        call(&name, if sink { &[0, 2] } else { &[0] }, text);
    };
    match term.node() {
        Node::Leaf(index) => text.push_str(&leaf_name(graph, *index)),
        Node::Axis(axis) => text.push_str(graph.axes().get(axis.index()).map_or("?", |info| info.name.as_str())),
        Node::Iota(_) => text.push_str(&along("iota", 0)),
        Node::Size(_) => text.push_str(&along("size", 0)),
        Node::Rotate(_) => call(&along("rotate", 2), &[0, 1], text),
        Node::Dot(_) => call(&along("dot", 2), &[0, 1], text),
        Node::Softmax(_) => normalised("softmax", text),
        Node::LogSumExp(_) => normalised("lse", text),
        Node::Select(_) => call("select", &[0, 1, 2], text),
        Node::Gather(_) => {
            child_text(graph, term, 0, true, text);
            text.push('[');
            child_text(graph, term, 2, false, text);
            text.push(']');
        }
        Node::Unary(rhumb_ir::Unary::Neg, _) => {
            text.push('-');
            child_text(graph, term, 0, true, text);
        }
        Node::Unary(op, _) => call(op.name(), &[0], text),
        Node::Cast(elem, _) => call(elem.name(), &[0], text),
        Node::Binary(op @ (rhumb_ir::Binary::Min | rhumb_ir::Binary::Max | rhumb_ir::Binary::Pow), _) => {
            call(op.name(), &[0, 1], text);
        }
        Node::Binary(op, _) => write_infix(graph, term, (binary_sign(*op), nested), text),
        Node::Compare(op, _) => write_infix(graph, term, (compare_sign(*op), nested), text),
        Node::Const(_) | Node::Block(..) | Node::Base(_) | Node::NoSink => text.push_str(&term.node().to_string()),
    }
}

/// A function of some children.
fn write_call(graph: &Graph, term: Term<'_>, (name, children): (&str, &[usize]), text: &mut String) {
    text.push_str(name);
    text.push('(');
    for (position, child) in children.iter().enumerate() {
        if position > 0 {
            text.push_str(", ");
        }
        child_text(graph, term, *child, false, text);
    }
    text.push(')');
}

/// Two children with a sign between them, in brackets where they are nested.
fn write_infix(graph: &Graph, term: Term<'_>, (sign, nested): (&str, bool), text: &mut String) {
    if nested {
        text.push('(');
    }
    child_text(graph, term, 0, true, text);
    text.push_str(&format!(" {sign} "));
    child_text(graph, term, 1, true, text);
    if nested {
        text.push(')');
    }
}

fn child_text(graph: &Graph, term: Term<'_>, index: usize, nested: bool, text: &mut String) {
    if let Some(child) = term.child(index) {
        write(graph, child, nested, text);
    }
}

fn leaf_name(graph: &Graph, index: u32) -> String {
    let Some(node) = graph.nodes().get(index as usize) else { return format!("%{index}") };
    match (&node.op, &node.label) {
        (Op::Input { name, .. }, _) => name.clone(),
        (_, Some(label)) => label.clone(),
        _ => format!("table_{index}"),
    }
}
