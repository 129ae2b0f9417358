//! The forms of statements, for errors; the crate's front page has the grammar whole.

use crate::unary::Unary;

pub(super) const HEADER: &str = "graph name";
pub(super) const AXIS: &str = "axis name = 64`, `axis name = ?` or `axis name = 8 groups finer";
pub(super) const SITE: &str = "site @0 {query = q, key = k, dim = d, q_pos = %a, k_pos = %b, q_index = %a, ...}";
pub(super) const OUTPUT: &str = "output \"name\" = %x : f32[b, q]";
pub(super) const VALUE: &str = "%name = op : f32[b, q]";
pub(super) const STATEMENT: &str = "axis name = 64`, `site @0 {...}`, `%name = op` or `output \"name\" = %x : f32[b]";

/// The form of an op.
pub(super) fn form(op: &str) -> &'static str {
    match op {
        "input" => "%name = input \"name\" : f32[b, q]",
        "const" => "%name = const 1.0`, `const 1` or `const true",
        "table" => "%name = table [1.0, 2.0] : f32[h]",
        "iota" => "%name = iota axis",
        "size" => "%name = size axis",
        "select" => "%name = select %cond, %on_true, %on_false",
        "cast" => "%name = cast %x to f32",
        "gather" => "%name = gather %table over axis at %index",
        "rotate" => "%name = rotate %x over axis by %angle over axis half from 0",
        "dot" => "%name = dot %a, %b over axis",
        "softmax" => "%name = softmax %x over axis sink %s base 2",
        "logsumexp" => "%name = logsumexp %x over axis sink %s base 2",
        "scheme" => "%name = scheme name.score %x @0 {attribute = 1.0, other = \"text\"}",
        _ if Unary::ALL.iter().any(|unary| unary.name() == op) => "%name = op %x",
        _ => "%name = op %a, %b",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::SPECIAL;

    #[test]
    fn every_special_op_has_a_form_of_its_own() {
        for op in SPECIAL {
            assert!(form(op).contains(op), "{op}");
        }
    }
}
