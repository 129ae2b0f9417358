//! What reads the tensors of a call, and what writes its outputs.

use rhumb_ir::Value;

use super::{Loaded, Origin, Plan, Source, TensorId};

impl Plan {
    /// The inputs, by their number, that are read as rows of key tiles alone, each at the address that the call record has: keys that are
    /// multiplied and values that are summed up, as they are or by rows that are computed of theirs. No table is made of them, and no other
    /// expression reads them.
    pub fn read_by_key_tiles(&self) -> Vec<bool> {
        let Some(attention) = &self.attention else { return vec![false; self.inputs.len()] };
        let read = self.read_otherwise();
        let products = attention.products.iter().map(|product| product.key);
        let rows = products.chain(attention.reductions.iter().map(|reduction| reduction.value));
        let rows: Vec<TensorId> = rows.map(|tensor| self.rows_of(tensor)).collect();
        self.inputs.iter().map(|tensor| rows.contains(tensor) && !read[*tensor]).collect()
    }

    /// The tensor whose rows the call record has the addresses of, for the keys of a product or the values of a reduction: itself, or the input
    /// that its rows are computed of.
    pub fn rows_of(&self, tensor: TensorId) -> TensorId {
        let mut loaded = self.schedule.loaded().iter().filter(|loaded| loaded.table.target == tensor);
        loaded.next().and_then(|loaded| loaded.input).unwrap_or(tensor)
    }

    /// Whether the attention alone writes outputs, and each query rows of its own: no output is a table, and none is made of its results. Calls
    /// of such plans can be shared by query.
    pub fn writes_rows_alone(&self) -> bool {
        self.tables.iter().all(|table| !table.after && self.tensors[table.target].origin == Origin::Table)
    }

    /// For each tensor whether it is an input that an expression reads, and not by the address in the call record.
    fn read_otherwise(&self) -> Vec<bool> {
        let mut read = vec![false; self.tensors.len()];
        let mut roots: Vec<Value> = Vec::new();
        for table in self.made().filter(|table| self.rows_of(table.target) == table.target) {
            match &table.source {
                // The operands of a value that has a table; below, such values are read as tables.
                Source::Value(root) => roots.extend(self.graph.op(*root).operands()),
                Source::Sum(terms) => roots.extend(terms.iter().map(|term| term.value)),
                Source::Cos(angle) | Source::Sin(angle) => roots.push(*angle),
                Source::Squares { tensor, .. } => read[*tensor] = true,
            }
            if let Source::Value(root) = table.source
                && let Some(input) = self.input(root)
            {
                read[input] = true;
            }
        }
        let leaves = self.attention.iter().flat_map(|attention| {
            let log_sum = attention.log_sum().map(|log_sum| log_sum.leaf);
            attention.products.iter().map(|product| product.dot).chain(log_sum)
        });
        if let Some(attention) = &self.attention {
            roots.extend(attention.terms.iter().chain(&attention.masks).map(|term| term.value));
            roots.extend(attention.products.iter().map(|product| product.query));
            let scaled = attention.products.iter().map(|product| product.scaled);
            let scaled = scaled.chain(attention.reductions.iter().map(|reduction| reduction.scaled)).flatten();
            roots.extend(scaled.flat_map(|scaled| scaled.scale.into_iter().chain(scaled.shift.map(|term| term.value))));
            roots.extend(attention.log_sum().map(|log_sum| log_sum.value));
        }
        let leaves: Vec<Value> = leaves.collect();
        let is_read = |value: Value| leaves.contains(&value) || self.table_of.contains_key(&Source::Value(value));
        let inputs = |roots: Vec<Value>| {
            let values = self.graph.below(roots, |value| !is_read(value)).filter(|value| !is_read(*value));
            values.filter_map(|value| self.input(value)).collect::<Vec<TensorId>>()
        };
        inputs(roots).into_iter().for_each(|input| read[input] = true);
        for Loaded { table, input, .. } in self.schedule.loaded() {
            if let (Source::Value(root), Some(input)) = (&table.source, input) {
                let others = inputs(self.graph.op(*root).operands());
                others.into_iter().filter(|other| other != input).for_each(|other| read[other] = true);
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rhumb_ir::Elem;
    use rhumb_plugins::{Alibi, Attention, Causal, QkNorm, Registry, Rope, Scales, lower};

    use crate::machine::Machine;
    use crate::plan::Plan;
    use crate::problem::recognize;
    use crate::rewrite::{RewriteOptions, fuse};

    /// The names of the inputs that key tiles alone read, in prefill and in decode.
    fn read(attention: &Attention) -> [String; 2] {
        let graph = attention.build().expect("a graph");
        let fused = fuse(&lower(&graph, &Registry::standard()).expect("lowers"), &RewriteOptions::default());
        let problem = Arc::new(recognize(fused.expect("fuses").graph()).expect("a problem"));
        let prefill = Plan::new(&problem, Machine::of(16, 32)).expect("a plan");
        let decode = Plan::decode(&problem, prefill.machine).expect("a plan");
        [prefill, decode].map(|plan| {
            let inputs = plan.inputs.iter().zip(plan.read_by_key_tiles()).filter(|(_, read)| *read);
            inputs.map(|(tensor, _)| plan.tensors[*tensor].name.as_str()).collect::<Vec<_>>().join(" ")
        })
    }

    #[test]
    fn rows_that_nothing_else_reads_are_found() {
        let of = || Attention::heads(4).head_dim(16).kv_heads(2).lse();
        assert_eq!(read(&of().scheme(Causal).softcap(3.0)), ["k v", "k v"]);
        assert_eq!(read(&of().scheme(Rope::new())), ["v", "k v"], "decode rotates keys row by row");
        assert_eq!(read(&of().scheme(Rope::new().query_only())), ["k v", "k v"]);
        assert_eq!(read(&of().scheme(QkNorm::rms())), ["v", "v"]);
        assert_eq!(
            read(&of().scheme(Alibi::new()).scheme(Causal)),
            ["", "k v"],
            "norms tell which keys have no weight"
        );
        assert_eq!(read(&of().key_lengths().sinks()), ["k v", "k v"]);
        let integers = || of().cache_elem(Elem::I8);
        assert_eq!(read(&integers().zero_points().scheme(Causal)), ["", "k v"], "scaled beside the products");
        assert_eq!(read(&integers().scheme(Rope::new().query_only())), ["", "k v"]);
        assert_eq!(read(&integers().scheme(Rope::new())), ["", "k v"], "decode rotates keys row by row");
        assert_eq!(read(&integers().scales(Scales::PerChannel)), ["", "k v"], "decode scales elements row by row");
        assert_eq!(read(&of().cache_elem(Elem::F8e4m3)), ["", "k v"]);
    }
}
