//! Walks over a graph, from values down to what they are made of.

use std::collections::BTreeSet;

use crate::graph::Graph;
use crate::op::Value;

/// A step of a [`Walk`]: a value, or a value with what is asked of it there.
pub trait Step: Copy {
    /// The steps that were made.
    type Made: Default;

    /// Notes the step. Whether it was made before.
    fn again(self, made: &mut Self::Made) -> bool;
}

impl Step for Value {
    type Made = Vec<bool>;

    fn again(self, made: &mut Vec<bool>) -> bool {
        if made.len() <= self.index() {
            made.resize(self.index() + 1, false);
        }
        std::mem::replace(&mut made[self.index()], true)
    }
}

impl<K: Copy + Ord> Step for (Value, K) {
    type Made = BTreeSet<(Value, K)>;

    fn again(self, made: &mut BTreeSet<(Value, K)>) -> bool {
        !made.insert(self)
    }
}

/// A walk over values, each once, depth first: whoever walks enters what a value leads to, or does not. No stack grows with the depth of an
/// expression, and no value is visited again where several share it.
///
/// ```
/// use rhumb_ir::{Elem, GraphBuilder, Op, Walk};
///
/// let b = GraphBuilder::new("g");
/// let n = b.axis("n");
/// let x = b.input("x", Elem::F32, [n]);
/// let sum = x * x + (x * x).exp();
/// b.output("y", sum, [n]);
/// let graph = b.finish()?;
/// // Sums alone are taken apart.
/// let (mut walk, mut terms) = (Walk::of([graph.outputs()[0].value]), Vec::new());
/// while let Some(value) = walk.next() {
///     match graph.op(value) {
///         op @ Op::Binary(rhumb_ir::Binary::Add, ..) => walk.enter(op.operands()),
///         _ => terms.push(value.index()),
///     }
/// }
/// assert_eq!(terms, [1, 3]);
/// # Ok::<(), rhumb_ir::VerifyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Walk<S: Step = Value> {
    /// Steps to make, the next last.
    left: Vec<S>,
    made: S::Made,
}

impl<S: Step> Walk<S> {
    /// A walk from some steps, in their order.
    pub fn of(roots: impl IntoIterator<Item = S>) -> Walk<S> {
        let mut walk = Walk { left: Vec::new(), made: S::Made::default() };
        walk.enter(roots);
        walk
    }

    /// Goes on with these, in their order, before all that is left; those that the walk has been at are passed by.
    pub fn enter(&mut self, steps: impl IntoIterator<Item = S>) {
        let from = self.left.len();
        self.left.extend(steps);
        self.left[from..].reverse();
    }

    /// Passes a step by, wherever it comes up from here on. Whether the walk has been at it, or has passed it, before.
    pub fn pass(&mut self, step: S) -> bool {
        step.again(&mut self.made)
    }
}

impl<S: Step> Iterator for Walk<S> {
    type Item = S;

    fn next(&mut self) -> Option<S> {
        while let Some(step) = self.left.pop() {
            if !step.again(&mut self.made) {
                return Some(step);
            }
        }
        None
    }
}

impl Graph {
    /// The values that some are made of, these included, each once and depth first; of those that `enters` refuses, the operands are left
    /// out.
    ///
    /// ```
    /// use rhumb_ir::{Elem, GraphBuilder, Op};
    ///
    /// let b = GraphBuilder::new("g");
    /// let n = b.axis("n");
    /// b.output("y", b.input("x", Elem::F32, [n]).exp().cos(), [n]);
    /// let graph = b.finish()?;
    /// let y = graph.outputs()[0].value;
    /// assert_eq!(graph.below([y], |_| true).count(), 3);
    /// assert!(graph.below([y], |value| value == y).all(|value| !matches!(graph.op(value), Op::Input { .. })));
    /// # Ok::<(), rhumb_ir::VerifyError>(())
    /// ```
    pub fn below<'g>(
        &'g self,
        roots: impl IntoIterator<Item = Value>,
        mut enters: impl FnMut(Value) -> bool + 'g,
    ) -> impl Iterator<Item = Value> + 'g {
        let mut walk = Walk::of(roots);
        std::iter::from_fn(move || {
            let value = walk.next()?;
            if enters(value) {
                walk.enter(self.op(value).operands());
            }
            Some(value)
        })
    }

    /// As [`Graph::below`], in the order of the graph: operands before users.
    pub fn below_in_order(
        &self,
        roots: impl IntoIterator<Item = Value>,
        enters: impl FnMut(Value) -> bool,
    ) -> Vec<Value> {
        let mut values: Vec<Value> = self.below(roots, enters).collect();
        values.sort_unstable();
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::GraphBuilder;
    use crate::op::Op;
    use crate::types::Elem;

    #[test]
    fn each_value_is_visited_once_and_operands_in_order() {
        let b = GraphBuilder::new("g");
        let n = b.axis("n");
        let (x, y) = (b.input("x", Elem::F32, [n]), b.input("y", Elem::F32, [n]));
        let product = x * y;
        let sum = product - (product + y.exp());
        b.output("sum", sum, [n]);
        let graph = b.finish().expect("a graph");
        let index = |value: Value| value.index();
        let root = graph.outputs()[0].value;
        let all: Vec<usize> = graph.below([root], |_| true).map(index).collect();
        assert_eq!(all, [5, 2, 0, 1, 4, 3]);
        assert_eq!(
            graph.below_in_order([root], |_| true).into_iter().map(index).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5]
        );
        let products = |value: Value| matches!(graph.op(value), Op::Binary(..)) && value.index() != 2;
        assert_eq!(graph.below([root], products).map(index).collect::<Vec<_>>(), [5, 2, 4, 3]);
        let mut walk = Walk::of([root, graph.values().next().expect("a value")]);
        assert!(!walk.pass(graph.values().nth(4).expect("a value")));
        while let Some(value) = walk.next() {
            assert_ne!(value.index(), 4);
            walk.enter(graph.op(value).operands());
        }
        // The same value for two purposes is two steps.
        assert_eq!(Walk::of([(root, 0), (root, 1), (root, 0)]).count(), 2);
        assert_eq!(Walk::<Value>::of([]).next(), None);
    }

    #[test]
    fn walks_are_linear_and_no_stack_grows_with_depth() {
        let b = GraphBuilder::new("chain");
        let n = b.axis("n");
        let mut x = b.input("x", Elem::F32, [n]);
        for _ in 0..5000 {
            // Twice as many paths with each op.
            x = x + x;
        }
        b.output("y", x, [n]);
        let graph = b.finish().expect("a graph");
        let mut entered = 0;
        let root = graph.outputs()[0].value;
        let visited = graph.below([root], |_| {
            entered += 1;
            true
        });
        assert_eq!(visited.count(), 5001);
    }
}
