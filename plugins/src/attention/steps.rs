//! What the steps of an attention do to the query, the key, the score and the mask.

use rhumb_ir::{Elem, Expr, Hook};

use super::error::BuildError;
use super::options::{Step, closures};
use super::parts::AttentionParts;
use crate::scheme::Scheme;

/// The steps of an attention in one graph.
pub(super) struct Steps<'a> {
    steps: Vec<(&'a Step, Option<Scheme>, String)>,
}

impl<'a> Steps<'a> {
    /// The steps with the schemes that are made for the graph of `parts`, and all checked.
    pub(super) fn of(steps: &'a [Step], parts: &AttentionParts<'_>) -> Result<Steps<'a>, BuildError> {
        let builder = parts.builder();
        let made = |(step, called): (&'a Step, String)| {
            let scheme = match step {
                Step::Scheme(scheme) => Some(scheme.clone()),
                Step::SchemeWith(make) => Some(builder.written_by(called.clone(), || make(parts))),
                _ => None,
            };
            (step, scheme, called)
        };
        let steps: Vec<_> = steps.iter().zip(closures(steps)).map(made).collect();
        for scheme in steps.iter().filter_map(|(_, scheme, _)| scheme.as_ref()) {
            let wrong = |source| BuildError::Scheme { scheme: scheme.name().to_owned(), source };
            parts.check(&**scheme).map_err(wrong)?;
        }
        Ok(Steps { steps })
    }

    /// What they make of queries, keys and scores, each step of all before the next.
    pub(super) fn transformed<'g, const N: usize>(
        &self,
        parts: &AttentionParts<'g>,
        mut values: [(Hook, Expr<'g>); N],
    ) -> Result<[Expr<'g>; N], BuildError> {
        for (step, scheme, called) in &self.steps {
            for (hook, x) in &mut values {
                let write = match (step, &scheme, *hook) {
                    (_, Some(scheme), hook) => {
                        *x = parts.apply(scheme, hook, *x);
                        continue;
                    }
                    (Step::Query(write), None, Hook::Query)
                    | (Step::Key(write), None, Hook::Key)
                    | (Step::Score(write), None, Hook::Score) => write,
                    _ => continue,
                };
                *x = written(parts, called, Elem::F32, || write(parts, *x))?;
            }
        }
        Ok(values.map(|(_, x)| x))
    }

    /// The masks that they make.
    pub(super) fn masks<'g>(&self, parts: &AttentionParts<'g>) -> Result<Vec<Expr<'g>>, BuildError> {
        let mask = |(step, scheme, called): &(&Step, Option<Scheme>, String)| match (step, scheme) {
            (_, Some(scheme)) => parts.mask(scheme).map(Ok),
            (Step::Mask(write), None) => Some(written(parts, called, Elem::Bool, || write(parts))),
            _ => None,
        };
        self.steps.iter().filter_map(mask).collect()
    }
}

/// What a closure wrote, of the type that it should be of.
pub(super) fn written<'g>(
    parts: &AttentionParts<'g>,
    closure: &str,
    expected: Elem,
    write: impl FnOnce() -> Expr<'g>,
) -> Result<Expr<'g>, BuildError> {
    let builder = parts.builder();
    let made = builder.written_by(closure, write);
    let found = made.ty().elem;
    if found != expected && !builder.is_poisoned(made) {
        return Err(BuildError::Closure { closure: closure.to_owned(), found, expected });
    }
    Ok(made)
}
