//! Lowering: every scheme op becomes the ops its scheme writes.
//!
//! Invariants of the result: no scheme op and no site is left; axes, inputs, outputs and labels stay, axes that schemes add come after;
//! no op is left that no output depends on, but for inputs, which keep their place in the call.

use std::rc::Rc;

use rhumb_ir::{Attr, Attrs, AxisSet, Elem, Expr, Hook, Instance, Op, Value, Verified, VerifyError};
use thiserror::Error;

use crate::attrs::same_bits;
use crate::error::SchemeError;
use crate::registry::{Registry, RegistryError};
use crate::scheme::{Made, PositionScheme, Scheme, SchemeContext};

/// Why a graph could not be lowered.
#[derive(Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum LowerError {
    /// The registry could not make the scheme of an op.
    Registry {
        /// The op, printed.
        op: String,
        /// What is wrong.
        source: Box<RegistryError>,
    },
    /// An op whose name or attributes are no longer those of the scheme that it carries.
    Changed {
        /// The scheme that the op carries.
        scheme: String,
        /// Its attributes.
        attrs: Attrs,
        /// The op, printed.
        op: String,
    },
    /// An op that carries something else than a scheme.
    Foreign {
        /// The op, printed.
        op: String,
    },
    /// The scheme refused its place.
    Scheme {
        /// The scheme.
        scheme: String,
        /// The op, printed.
        op: String,
        /// What is wrong.
        source: Box<SchemeError>,
    },
    /// The scheme wrote ops that are not well formed.
    IllFormed {
        /// The scheme.
        scheme: String,
        /// The op, printed.
        op: String,
        /// The ops.
        source: VerifyError,
    },
    /// What the schemes wrote does not fit the rest of the graph.
    Graph(VerifyError),
}

rhumb_ir::display_with_hint!(LowerError);

impl LowerError {
    /// What was found, without the hint.
    pub fn finding(&self) -> String {
        match self {
            LowerError::Registry { op, source } => format!("{}\n  in {op}", source.finding()),
            LowerError::Changed { scheme, op, .. } => {
                format!("the op carries scheme `{scheme}`, and no longer has its name and attributes\n  in {op}")
            }
            LowerError::Foreign { op } => format!("the op carries an instance that is no scheme\n  in {op}"),
            LowerError::Scheme { scheme, op, source } => format!("scheme `{scheme}`: {}\n  in {op}", source.finding()),
            LowerError::IllFormed { scheme, op, source } => {
                format!("scheme `{scheme}` wrote ops that are not well formed\n  in {op}\n{source}")
            }
            LowerError::Graph(source) => format!("the lowered graph is not well formed\n{source}"),
        }
    }

    /// What would mend it.
    pub fn hint(&self) -> String {
        match self {
            LowerError::Registry { op: _, source } => source.hint(),
            LowerError::Changed { .. } | LowerError::Foreign { .. } => {
                "leave the op as the scheme made it, or without its instance, so that the registry makes the scheme"
                    .to_owned()
            }
            LowerError::Scheme { source, .. } => source.hint(),
            LowerError::IllFormed { scheme, .. } => format!("mend the hooks of scheme `{scheme}`"),
            LowerError::Graph(_) => "see that every scheme keeps the axes that the ops after it need".to_owned(),
        }
    }
}

/// Expands every scheme op of `graph`: by the scheme that the op carries, or, where it has but a name and attributes as in a parsed graph,
/// by the one that `registry` makes of them.
///
/// # Errors
/// [`LowerError`] says which scheme, which op and why.
pub fn lower(graph: &Verified, registry: &Registry) -> Result<Verified, LowerError> {
    let made = Rc::new(Made::default());
    // The first scheme op whose ops are not well formed; the builder keeps the details until the end.
    let mut ill_formed = None;
    let lowered = graph.rebuild(|builder, value, op| {
        let Op::Scheme { scheme: name, hook, x, site, attrs, instance } = op else { return Ok(builder.push(op)) };
        let shown = || graph.line(value);
        let (scheme, renamed) = match &instance {
            Some(instance) => {
                let (scheme, renamed) = carried(instance, &name, &attrs, shown)?;
                (scheme, Some(renamed))
            }
            None => {
                let made = registry.make(&name, &attrs);
                (made.map_err(|source| LowerError::Registry { op: shown(), source: Box::new(source) })?, None)
            }
        };
        let applied = match builder.site_info(site) {
            Some(site) => {
                let cx = SchemeContext::sharing(builder, site, made.clone());
                let cx = if let Some(renamed) = renamed { cx.renamed(renamed) } else { cx };
                apply(&*scheme, hook, &cx, x.map(|x| builder.expr(x)), &attrs)
            }
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

/// The scheme that an op carries, and the values it holds, each with what it is called in the op's attributes.
fn carried(
    instance: &Instance,
    name: &str,
    attrs: &Attrs,
    op: impl Fn() -> String,
) -> Result<(Scheme, Vec<(Value, Value)>), LowerError> {
    let Some(scheme) = Scheme::of(instance) else { return Err(LowerError::Foreign { op: op() }) };
    let own = scheme.attributes();
    let mut renamed: Vec<(Value, Value)> = Vec::new();
    let mut same = scheme.name() == name && own.len() == attrs.len();
    for ((own_name, own), (name, attr)) in own.iter().zip(attrs) {
        same &= own_name == name;
        if let (Attr::Value(old), Attr::Value(new)) = (own, attr) {
            // One value has one name.
            same &= renamed.iter().all(|(o, n)| o != old || n == new);
            renamed.push((*old, *new));
        } else {
            same &= same_bits(own, attr);
        }
    }
    if same {
        return Ok((scheme, renamed));
    }
    Err(LowerError::Changed { scheme: scheme.name().to_owned(), attrs: own, op: op() })
}

/// Runs one hook of a scheme, checked on both sides.
fn apply<'g>(
    scheme: &dyn PositionScheme,
    hook: Hook,
    cx: &SchemeContext<'g>,
    x: Option<Expr<'g>>,
    attrs: &Attrs,
) -> Result<Expr<'g>, SchemeError> {
    if !scheme.hooks().contains(&hook) {
        return Err(SchemeError::Hook { hook, known: scheme.hooks().to_vec() });
    }
    let before = cx.builder().values().count();
    cx.check(scheme)?;
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
    if !cx.builder().is_poisoned(result) {
        reads_its_own(cx, before, x, result, attrs)?;
        leaves_no_axis(cx, hook, x, result, attrs)?;
    }
    Ok(result)
}

/// The values among attributes.
fn values_of(attrs: &Attrs) -> impl Iterator<Item = Value> {
    attrs.values().filter_map(|attr| if let Attr::Value(value) = attr { Some(*value) } else { None })
}

/// Checks that what a scheme made of `x` varies over no axis that the scheme made for itself: no op after it could read that.
fn leaves_no_axis<'g>(
    cx: &SchemeContext<'g>,
    hook: Hook,
    x: Option<Expr<'g>>,
    result: Expr<'g>,
    attrs: &Attrs,
) -> Result<(), SchemeError> {
    let site = cx.site();
    let given = site.values().into_iter().map(|(_, value)| value).chain(x.map(Expr::value)).chain(values_of(attrs));
    let known =
        given.fold(site.axes().collect(), |axes: AxisSet, value| axes.union(cx.builder().expr(value).ty().axes));
    match result.ty().axes.iter().find(|axis| !known.contains(*axis)) {
        Some(axis) => Err(SchemeError::other(
            format!("the {} is left with axis `{}` of the scheme's own", hook.name(), cx.axis_name(axis)),
            "sum over that axis, or look a value up along it",
        )),
        None => Ok(()),
    }
}

/// Checks that of the first `before` values, what a scheme wrote reads none but those it was offered: another would be a value of the
/// graph that the scheme was made for, which has another number here.
fn reads_its_own<'g>(
    cx: &SchemeContext<'g>,
    before: usize,
    x: Option<Expr<'g>>,
    result: Expr<'g>,
    attrs: &Attrs,
) -> Result<(), SchemeError> {
    let offered: Vec<Value> = cx.offered().into_iter().chain(x.map(Expr::value)).chain(values_of(attrs)).collect();
    let builder = cx.builder();
    let read = builder.values().skip(before).flat_map(|value| builder.operands(value)).chain([result.value()]);
    match read.into_iter().find(|value| value.index() < before && !offered.contains(value)) {
        Some(value) => Err(SchemeError::Untold { value: format!("number {}", value.index()) }),
        None => Ok(()),
    }
}
