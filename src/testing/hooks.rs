//! Whether the hooks that a scheme lists are those at which it does something.

use rhumb_ir::{AxisSet, Elem, Expr, GraphBuilder, Hook};
use rhumb_plugins::{AttentionParts, PositionScheme};

use super::failure::Finding;
use super::shape::Trial;
use super::subject::Subject;

const ALL: [Hook; 4] = [Hook::Query, Hook::Key, Hook::Score, Hook::Mask];

/// Checks that the scheme lists every hook that it implements, and that it does something at every hook that it lists, at one of the trials at
/// least.
pub(super) fn check(subject: &Subject<'_>, trials: &[Trial]) -> Result<(), (Option<Trial>, Box<Finding>)> {
    let mut acted = Vec::new();
    let mut listed = Vec::new();
    for trial in trials {
        let at = |finding| (Some(*trial), Box::new(finding));
        for hook in ALL {
            let builder = GraphBuilder::new("hook");
            let (parts, inputs, scheme) = subject.placed(&builder, trial).map_err(at)?;
            parts.check(&*scheme).map_err(Finding::Check).map_err(at)?;
            let declared = scheme.info().hooks.contains(&hook);
            if scheme.hooks().contains(&hook) && !declared {
                return Err(at(Finding::Undeclared { hook, declared: scheme.info().hooks.clone() }));
            }
            let operand = match hook {
                Hook::Query => inputs[0],
                Hook::Key => inputs[1],
                Hook::Score | Hook::Mask => inputs[0].dot(inputs[1], parts.d) * trial.shape.scale(),
            };
            let does = does_something(&builder, &parts, &*scheme, (hook, operand));
            if does && !declared {
                return Err(at(Finding::Unlisted { hook, listed: scheme.info().hooks.clone() }));
            }
            if scheme.hooks().contains(&hook) {
                listed.push(hook);
                acted.extend(does.then_some(hook));
            }
        }
    }
    let idle = ALL.into_iter().find(|hook| listed.contains(hook) && !acted.contains(hook));
    idle.map_or(Ok(()), |hook| Err((None, Box::new(Finding::Idle { hook }))))
}

/// Whether a hook gives back something else than its operand, or a mask that may hide something. What it refuses it has an opinion of.
fn does_something<'g>(
    builder: &'g GraphBuilder,
    parts: &AttentionParts<'g>,
    scheme: &dyn PositionScheme,
    (hook, operand): (Hook, Expr<'g>),
) -> bool {
    let before = builder.values().count();
    let made = match hook {
        Hook::Query => scheme.query(parts, operand),
        Hook::Key => scheme.key(parts, operand),
        Hook::Score => scheme.score(parts, operand),
        Hook::Mask => scheme.mask(parts),
    };
    match made {
        Err(_) => true,
        // What the hook does unless a scheme says otherwise: a constant.
        Ok(mask) if hook == Hook::Mask => {
            let constant = mask.ty().elem == Elem::Bool && mask.ty().axes == AxisSet::EMPTY;
            !constant || mask.value().index() < before || !builder.operands(mask.value()).is_empty()
        }
        Ok(made) => made.value() != operand.value(),
    }
}
