//! The literal pool that follows the code.

use std::collections::HashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LiteralId(u32);

impl LiteralId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Constants, each as long as it is aligned, none twice.
#[derive(Default)]
pub(crate) struct Pool {
    literals: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, LiteralId>,
}

impl Pool {
    pub(crate) fn insert(&mut self, bytes: Vec<u8>) -> LiteralId {
        if let Some(&id) = self.ids.get(&bytes) {
            return id;
        }
        #[allow(clippy::cast_possible_truncation, reason = "one literal per instruction at most")]
        let id = LiteralId(self.literals.len() as u32);
        self.ids.insert(bytes.clone(), id);
        self.literals.push(bytes);
        id
    }

    /// Appends the pool to `code` and says where each literal begins. Longest first, so that alignment costs nothing in between.
    pub(crate) fn append(&self, code: &mut Vec<u8>) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.literals.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.literals[i].len()));
        let mut offsets = vec![0; self.literals.len()];
        for i in order {
            let literal = &self.literals[i];
            code.resize(code.len().next_multiple_of(literal.len().max(1)), 0);
            offsets[i] = code.len();
            code.extend_from_slice(literal);
        }
        offsets
    }
}
