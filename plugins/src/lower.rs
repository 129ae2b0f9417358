//! Lowering: every scheme op becomes the ops its scheme writes.
//!
//! Invariants of the result: no scheme op and no site is left; axes, inputs, outputs and labels stay, axes that schemes add come after;
//! no op is left that no output depends on, but for inputs, which keep their place in the call.

use std::rc::Rc;

use rhumb_ir::{Elem, Expr, Graph, GraphBuilder, Hook, Op, Site, Value, Verified, VerifyError};
use thiserror::Error;

use crate::error::SchemeError;
use crate::registry::{Registry, RegistryError};
use crate::scheme::{Cx, Made, PositionScheme};

/// Why a graph could not be lowered.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum LowerError {
    /// The registry could not make the scheme of an op.
    #[error("{source}\n  in {op}")]
    Registry {
        /// The op, printed.
        op: String,
        /// What is wrong.
        source: Box<RegistryError>,
    },
    /// The scheme refused its place.
    #[error("scheme `{scheme}`: {source}\n  in {op}")]
    Scheme {
        /// The scheme.
        scheme: String,
        /// The op, printed.
        op: String,
        /// What is wrong.
        source: Box<SchemeError>,
    },
    /// The scheme wrote ops that are not well formed.
    #[error("scheme `{scheme}` wrote ops that are not well formed\n  in {op}\n{source}")]
    IllFormed {
        /// The scheme.
        scheme: String,
        /// The op, printed.
        op: String,
        /// The ops.
        source: VerifyError,
    },
    /// What the schemes wrote does not fit the rest of the graph.
    #[error("the lowered graph is not well formed\n{0}")]
    Graph(VerifyError),
}

impl LowerError {
    /// What would mend it.
    pub fn hint(&self) -> String {
        match self {
            LowerError::Registry { op: _, source } => source.hint(),
            LowerError::Scheme { source, .. } => source.hint(),
            LowerError::IllFormed { scheme, .. } => format!("mend the hooks of scheme `{scheme}`"),
            LowerError::Graph(_) => "see that every scheme keeps the axes that the ops after it need".to_owned(),
        }
    }
}

/// Expands every scheme op of `graph` by the schemes of `registry`.
///
/// # Errors
/// [`LowerError`] says which scheme, which op and why.
pub fn lower(graph: &Verified, registry: &Registry) -> Result<Verified, LowerError> {
    let builder = declare(graph);
    let made = Rc::new(Made::default());
    let mut values: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for value in graph.values() {
        let node = graph.node(value);
        let op = node.op.map_operands(|operand| values[operand.index()]);
        let Op::Scheme { scheme, hook, x, site, attrs } = op else {
            let expr = builder.push(op);
            values.push(labelled(expr, node.label.as_deref()).value());
            continue;
        };
        let shown = || graph.line(value);
        let scheme = registry.make(&scheme, &attrs).map_err(|source| LowerError::Registry { op: shown(), source })?;
        let cx = Cx::sharing(&builder, moved(graph.site(site), &values), made.clone());
        let expr = apply(&*scheme, hook, &cx, x.map(|x| builder.expr(x))).map_err(|source| LowerError::Scheme {
            scheme: scheme.name().to_owned(),
            op: shown(),
            source,
        })?;
        if builder.is_poisoned(expr) {
            let scheme = scheme.name().to_owned();
            return Err(match builder.finish() {
                Err(source) => LowerError::IllFormed { scheme, op: shown(), source },
                // Not reached: a poisoned builder does not finish. An error is the safe answer all the same.
                Ok(_) => LowerError::Scheme {
                    scheme,
                    op: shown(),
                    source: SchemeError::other("the result is not well formed", "mend the hooks of the scheme"),
                },
            });
        }
        // A hook that hands back its operand must not rename it.
        let label = node.label.as_deref().filter(|_| !values.contains(&expr.value()));
        values.push(labelled(expr, label).value());
    }
    for output in graph.outputs() {
        builder.output(&output.name, builder.expr(values[output.value.index()]), output.dims.iter().copied());
    }
    let lowered = builder.finish().map_err(LowerError::Graph)?;
    prune(&lowered).map_err(LowerError::Graph)
}

/// Runs one hook of a scheme, checked on both sides.
fn apply<'g>(
    scheme: &dyn PositionScheme,
    hook: Hook,
    cx: &Cx<'g>,
    x: Option<Expr<'g>>,
) -> Result<Expr<'g>, SchemeError> {
    if !scheme.hooks().contains(&hook) {
        return Err(SchemeError::Hook { hook, known: scheme.hooks().to_vec() });
    }
    scheme.check(cx)?;
    let (result, expected) = match (hook, x) {
        (Hook::Query, Some(x)) => (scheme.query(cx, x)?, Elem::F32),
        (Hook::Key, Some(x)) => (scheme.key(cx, x)?, Elem::F32),
        (Hook::Score, Some(x)) => (scheme.score(cx, x)?, Elem::F32),
        (Hook::Mask, _) | (_, None) => (scheme.mask(cx)?, Elem::Bool),
    };
    let found = result.ty().elem;
    if found != expected && !cx.builder().is_poisoned(result) {
        return Err(SchemeError::ResultType { hook, found, expected });
    }
    Ok(result)
}

/// A builder with the axes of `graph`, under the same handles.
fn declare(graph: &Graph) -> GraphBuilder {
    let builder = GraphBuilder::new(&graph.name);
    for axis in graph.axes() {
        builder.declare(axis.clone());
    }
    builder
}

fn labelled<'g>(expr: Expr<'g>, label: Option<&str>) -> Expr<'g> {
    match label {
        Some(label) => expr.label(label),
        None => expr,
    }
}

fn moved(site: &Site, values: &[Value]) -> Site {
    let value = |old: Value| values[old.index()];
    let &Site { query, key, head, dim, q_pos, k_pos, q_index, k_index, length } = site;
    Site {
        query,
        key,
        head,
        dim,
        q_pos: value(q_pos),
        k_pos: value(k_pos),
        q_index: value(q_index),
        k_index: value(k_index),
        length: value(length),
    }
}

/// `graph` without ops that no output depends on; inputs stay.
fn prune(graph: &Verified) -> Result<Verified, VerifyError> {
    let mut live = vec![false; graph.nodes().len()];
    for output in graph.outputs() {
        live[output.value.index()] = true;
    }
    for value in graph.values().collect::<Vec<_>>().into_iter().rev() {
        let op = graph.op(value);
        live[value.index()] |= matches!(op, Op::Input { .. });
        if live[value.index()] {
            for operand in op.operands() {
                live[operand.index()] = true;
            }
        }
    }
    let builder = declare(graph);
    let mut values: Vec<Option<Value>> = Vec::with_capacity(live.len());
    for value in graph.values() {
        let node = graph.node(value);
        values.push(live[value.index()].then(|| {
            // Operands of a live op are live.
            let op = node.op.map_operands(|operand| values[operand.index()].unwrap_or(operand));
            labelled(builder.push(op), node.label.as_deref()).value()
        }));
    }
    for output in graph.outputs() {
        let value = values[output.value.index()].unwrap_or(output.value);
        builder.output(&output.name, builder.expr(value), output.dims.iter().copied());
    }
    builder.finish()
}
