//! What a rule is.

use std::fmt;

use super::conditions::Condition;

/// What a rewrite may do to floating-point results. Each class includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FloatClass {
    /// The same values, whatever the operands. (Zeros of either sign are one value.)
    Exact,
    /// Equal in real arithmetic: results differ by rounding, and where an intermediate result overflows.
    Reassociating,
    /// Equal in real arithmetic where certain operands are neither infinite nor NaN.
    FiniteOnly,
}

impl fmt::Display for FloatClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FloatClass::Exact => "exact",
            FloatClass::Reassociating => "reassociating",
            FloatClass::FiniteOnly => "finite-only",
        })
    }
}

/// The part of mathematics a rule belongs to: the file that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Theory {
    /// Sums, products, conversions.
    Arithmetic,
    /// Factors moved to where they cost least.
    Scaling,
    /// Softmax and log-sum-exp.
    Softmax,
    /// Rotations.
    Rotation,
    /// Masks and comparisons.
    Mask,
}

/// A rewrite rule as its table states it.
pub struct Rule {
    /// Its name, unique among all.
    pub name: &'static str,
    /// The theory it belongs to.
    pub theory: Theory,
    /// What it may do to floating-point results.
    pub class: FloatClass,
    /// The pattern it replaces.
    pub lhs: &'static str,
    /// What replaces it.
    pub rhs: &'static str,
    /// Side conditions; all must hold.
    pub(crate) when: Vec<Condition>,
    /// Where such a condition holds, the rule is of the lesser class beside it.
    pub(crate) downgrades: Vec<(FloatClass, Condition)>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] {} => {}", self.name, self.class, self.lhs, self.rhs)
    }
}

/// A row of a rule table.
pub(crate) fn rule(
    theory: Theory,
    class: FloatClass,
    name: &'static str,
    lhs: &'static str,
    rhs: &'static str,
    when: impl IntoIterator<Item = Condition>,
) -> Rule {
    Rule { name, theory, class, lhs, rhs, when: when.into_iter().collect(), downgrades: Vec::new() }
}

impl Rule {
    /// Adds that the rule is of the lesser `class` where `condition` holds.
    pub(crate) fn downgrade_if(mut self, class: FloatClass, condition: Condition) -> Rule {
        self.downgrades.push((class, condition));
        self
    }
}
