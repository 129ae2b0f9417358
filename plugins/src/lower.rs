//! Lowering: every scheme op becomes the ops its scheme writes.
//!
//! Invariants of the result: no scheme op and no site is left; axes, inputs, outputs and labels stay, axes that schemes add come after;
//! no op is left that no output depends on, but for inputs, which keep their place in the call.

use std::rc::Rc;

use rhumb_ir::{Elem, Expr, Hook, Op, Verified, VerifyError};
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
    let made = Rc::new(Made::default());
    // The first scheme op whose ops are not well formed; the builder keeps the details until the end.
    let mut ill_formed = None;
    let lowered = graph.rebuild(|builder, value, op| {
        let Op::Scheme { scheme: name, hook, x, site, attrs } = op else { return Ok(builder.push(op)) };
        let shown = || graph.line(value);
        let scheme = registry
            .make(&name, &attrs)
            .map_err(|source| LowerError::Registry { op: shown(), source: Box::new(source) })?;
        let applied = match builder.site_info(site) {
            Some(site) => apply(&*scheme, hook, &Cx::sharing(builder, site, made.clone()), x.map(|x| builder.expr(x))),
            None => Err(SchemeError::other("the site does not exist", "give the op a site of its graph")),
        };
        let expr = applied.map_err(|source| LowerError::Scheme {
            scheme: name.clone(),
            op: shown(),
            source: Box::new(source),
        })?;
        if ill_formed.is_none() && builder.is_poisoned(expr) {
            ill_formed = Some((name, shown()));
        }
        Ok(expr)
    })?;
    match (lowered.finish(), ill_formed) {
        (Ok(lowered), _) => Ok(lowered.prune()),
        (Err(source), Some((scheme, op))) => Err(LowerError::IllFormed { scheme, op, source }),
        (Err(source), None) => Err(LowerError::Graph(source)),
    }
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
        // The verifier lets the mask hook alone stand without an operand.
        (Hook::Mask, _) | (_, None) => (scheme.mask(cx)?, Elem::Bool),
    };
    let found = result.ty().elem;
    if found != expected && !cx.builder().is_poisoned(result) {
        return Err(SchemeError::ResultType { hook, found, expected });
    }
    Ok(result)
}
