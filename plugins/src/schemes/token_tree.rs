//! Token tree: draft tokens of several continuations, of which each sees its own ancestors.
//!
//! For speculative decoding (SpecInfer, arXiv 2305.09781; Medusa, arXiv 2401.10774). The last `n` tokens, counted back from `length`, are the
//! nodes of a tree; `parents` names for each its parent among them, or -1 for one that continues the text. All tokens see what is before the
//! tree; a node sees its ancestors and itself besides. A parent comes before its children.
//!
//! Walked depth first, a node's descendants are those it comes before and that come before it is left. So a node has two numbers, when it is entered
//! and when it is left, and a pair of query and key makes two comparisons.
//!
//! ```text
//! %mask = scheme token_tree.mask @0 {parents = [-1.0, 0.0, 0.0, 1.0]} : bool[q, k]
//! ```
//! becomes
//! ```text
//! %6 = table [0, 1, 3, 2] : i32[node]
//! %7 = table [3, 2, 3, 2] : i32[node]
//! %8 = const 4 : i32
//! %9 = sub %length, %8 : i32
//! %10 = sub %i, %9 : i32[q]
//! %11 = sub %j, %9 : i32[k]
//! %12 = gather %6 over node at %10 : i32[q]
//! %13 = gather %6 over node at %11 : i32[k]
//! %14 = le %13, %12 : bool[q, k]
//! %15 = gather %7 over node at %11 : i32[k]
//! %16 = le %12, %15 : bool[q, k]
//! %17 = and %14, %16 : bool[q, k]
//! %18 = const 0 : i32
//! %19 = lt %11, %18 : bool[k]
//! %20 = const 0 : i32
//! %21 = ge %10, %20 : bool[q]
//! %22 = and %21, %17 : bool[q, k]
//! %mask = or %19, %22 : bool[q, k]
//! ```

use rhumb_ir::Expr;

use crate::error::SchemeError;
use crate::scheme::{PositionScheme, SchemeContext};

crate::scheme! {
    /// Draft tokens of several continuations, of which each sees its own ancestors (arXiv 2305.09781).
    ///
    /// See the [module](self).
    #[derive(Clone, Debug, PartialEq)]
    pub struct TokenTree: "token_tree" at Mask = "j before the tree, or j is i or an ancestor of i" {
        /// The parent of each node among the nodes, -1 for none.
        #[range(-1.0..=1e6, "a list of earlier nodes, or -1")]
        parents: Vec<f64>,
    }
}

impl TokenTree {
    /// The last tokens as a tree: the parent of each among them, `None` for one that continues the text. A parent comes before its children.
    pub fn new(parents: impl IntoIterator<Item = Option<u32>>) -> TokenTree {
        TokenTree::with_defaults(parents.into_iter().map(|parent| parent.map_or(-1.0, f64::from)).collect())
    }

    /// When each node is entered, depth first, and the last number of its descendants.
    fn numbers(&self) -> [Vec<i32>; 2] {
        let n = self.parents.len();
        let parent = |node: usize| usize::try_from(self.parents[node] as i64).ok();
        let mut size = vec![1; n];
        for node in (0..n).rev() {
            if let Some(parent) = parent(node) {
                size[parent] += size[node];
            }
        }
        // The next number among the children of each node, and among those without a parent.
        let (mut next, mut top) = (vec![0; n], 0);
        let (mut entered, mut last) = (vec![0; n], vec![0; n]);
        for node in 0..n {
            let place = parent(node).map_or(&mut top, |parent| &mut next[parent]);
            entered[node] = *place;
            *place += size[node];
            next[node] = entered[node] + 1;
            last[node] = entered[node] + size[node] - 1;
        }
        [entered, last]
    }
}

impl PositionScheme for TokenTree {
    fn check(&self, _: &SchemeContext<'_>) -> Result<(), SchemeError> {
        if self.parents.is_empty() {
            return Err(SchemeError::range("parents", "an empty list", "at least one node"));
        }
        let late = |(node, parent): &(usize, &f64)| parent.fract() != 0.0 || **parent >= *node as f64;
        match self.parents.iter().enumerate().find(late) {
            Some((node, parent)) => {
                let expected = format!("for node {node} a node before it, or -1");
                Err(SchemeError::range("parents", format!("a list with {parent} at place {node}"), expected))
            }
            None => Ok(()),
        }
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        let node = cx.axis("node", self.parents.len() as u32);
        let [entered, last] = self.numbers().map(|list| cx.builder().int_table([node], &list));
        let first = cx.length() - self.parents.len() as i32;
        let (i, j) = (cx.q_index() - first, cx.k_index() - first);
        let query = entered.gather(node, i);
        let ancestor = entered.gather(node, j).le(query) & query.le(last.gather(node, j));
        Ok(j.lt(0) | (i.ge(0) & ancestor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_true() {
        crate::schemes::example::check(include_str!("token_tree.rs"), 8, |_| {
            Box::new(TokenTree::new([None, Some(0), Some(0), Some(1)]))
        });
    }
}
