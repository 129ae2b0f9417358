//! Plans as text.

use std::fmt;

use rhumb_ir::Axis;

use super::{
    Attention, Combiner, Decode, Hinges, LanesAre, Loaded, Origin, Plan, RowTile, Scaled, Source, TensorId, Term,
};

impl Plan {
    /// The name of an axis of the graph.
    fn axis(&self, axis: Axis) -> &str {
        &self.graph.axis(axis).name
    }

    fn axes(&self, axes: &[Axis]) -> String {
        let names: Vec<&str> = axes.iter().map(|axis| self.axis(*axis)).collect();
        format!("[{}]", names.join(", "))
    }

    fn tensor(&self, id: TensorId) -> String {
        let tensor = &self.tensors[id];
        format!("`{}` {}{}", tensor.name, tensor.storage.name(), self.axes(&tensor.dims))
    }

    fn terms(&self, terms: &[Term], names: &[String]) -> String {
        let parts: Vec<String> = terms
            .iter()
            .enumerate()
            .map(|(n, term)| {
                let sign = match (n, term.negative) {
                    (0, false) => "",
                    (0, true) => "-",
                    (_, false) => " + ",
                    (_, true) => " - ",
                };
                format!("{sign}{}", names[term.value.index()])
            })
            .collect();
        parts.concat()
    }

    fn write_tensors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, tensor) in self.tensors.iter().enumerate() {
            let origin = match tensor.origin {
                Origin::Input(_) => "input",
                Origin::Output(_) => "output",
                Origin::Constant(_) => "constant",
                Origin::Table | Origin::KeyTile | Origin::Index => continue,
            };
            writeln!(f, "  {origin} {}", self.tensor(id))?;
        }
        Ok(())
    }

    fn write_tables(&self, f: &mut fmt::Formatter<'_>, names: &[String]) -> fmt::Result {
        for (index, step) in self.tables.iter().enumerate() {
            let source = match &step.source {
                Source::Value(value) => names[value.index()].clone(),
                Source::Sum(terms) => self.terms(terms, names),
                Source::Cos(angle) | Source::Sin(angle) => format!("cos and sin of {}", names[angle.index()]),
                Source::Squares { tensor, dim } => {
                    format!("squared norms of `{}` over {}", self.tensors[*tensor].name, self.axis(*dim))
                }
            };
            let precision = if step.double { "f64" } else { "f32" };
            let second = step.second.map_or(String::new(), |second| format!(" and {}", self.tensor(second)));
            let after = if step.after { "after the attention: " } else { "" };
            let target = self.tensor(step.target);
            writeln!(f, "  {after}table{index} {target}{second} = {source} in {precision}: {}", step.reason)?;
            if let Some(placed) = self.placed(index) {
                writeln!(f, "    {placed}")?;
            }
        }
        Ok(())
    }

    /// The loops of an attention, and its products.
    fn write_loops(&self, f: &mut fmt::Formatter<'_>, attention: &Attention, names: &[String]) -> fmt::Result {
        let outer = self.axes(&attention.outer);
        let (query, key) = (self.axis(attention.query), self.axis(attention.key));
        writeln!(f, "  attention over {outer}, queries {query}, keys {key}")?;
        if let (Some(packed), LanesAre::Queries) = (attention.packed, self.schedule.lanes()) {
            writeln!(f, "    packed: queries of {} of {} in a tile", packed.heads, self.axis(packed.axis))?;
        }
        for product in &attention.products {
            writeln!(
                f,
                "    product {} = {} . {} over {} ({})",
                names[product.dot.index()],
                names[product.query.index()],
                self.tensor(product.key),
                self.axis(product.dim),
                product.length
            )?;
            self.write_scaled(f, product.scaled, names)?;
            match self.bf16_pairs.factor {
                Some(1.0) => writeln!(f, "      by pairs of bf16")?,
                Some(factor) => writeln!(f, "      by pairs of bf16, times {factor} outside")?,
                None => {}
            }
            if self.integers.products {
                writeln!(f, "      by pairs of integers, queries rounded to 16 bits")?;
            }
        }
        let turned = attention.products.iter().filter(|product| self.is_by_distance(product));
        turned.map(|product| names[product.dot.index()].as_str()).try_for_each(|name| {
            writeln!(f, "    by distance {name}: products of a few queries and keys for all of a key tile")
        })
    }

    /// What is moved out of the products of rows in fewer bits.
    fn write_scaled(&self, f: &mut fmt::Formatter<'_>, scaled: Option<Scaled>, names: &[String]) -> fmt::Result {
        let Some(Scaled { scale, shift, .. }) = scaled else { return Ok(()) };
        if let Some(Term { value, negative }) = shift {
            let sign = if negative { "less" } else { "and" };
            writeln!(f, "      each element {sign} {} of its row", names[value.index()])?;
        }
        match scale {
            Some(scale) => writeln!(f, "      times {} of its row, outside", names[scale.index()]),
            None => Ok(()),
        }
    }

    /// What a score is made of beside its products, and what hides it.
    fn write_score(&self, f: &mut fmt::Formatter<'_>, attention: &Attention, names: &[String]) -> fmt::Result {
        let score = if attention.combiner == Combiner::Sum { "weight" } else { "score" };
        writeln!(f, "    {score} {}", self.terms(self.terms_beside_hinges(attention), names))?;
        if let Some(Hinges { x, units, .. }) = &self.hinges {
            let (x, count) = (&names[x.index()], units.len());
            writeln!(f, "    and {count} hinges of {x}: in each key tile a line, and those that bend within it")?;
        }
        for value in &self.by_distance {
            writeln!(f, "    by distance {}: once for each key tile, not for each query", names[value.index()])?;
        }
        for value in &self.by_runs.values {
            writeln!(
                f,
                "    by runs {}: once for each distance of a run of queries and one of keys",
                names[value.index()]
            )?;
        }
        if let Some(term) = attention.key_term {
            writeln!(f, "    key term {} + {}", self.tensor(term.high), self.tensor(term.low))?;
        }
        if let Some(term) = attention.query_term {
            writeln!(f, "    query term {}", self.tensor(term))?;
        }
        for mask in &attention.masks {
            let not = if mask.negative { "not " } else { "" };
            writeln!(f, "    mask {not}{}", names[mask.value.index()])?;
        }
        if attention.on_grid {
            writeln!(f, "    key tiles on a grid: masks read tensors over queries or keys")?;
        }
        if let Some(pruning) = attention.pruning {
            let tables: Vec<String> = pruning.squares().map(|table| self.tensor(table)).collect();
            writeln!(f, "    keys without weight are pruned by {}", tables.join(" and "))?;
        }
        Ok(())
    }

    /// What becomes of the weights.
    fn write_results(&self, f: &mut fmt::Formatter<'_>, attention: &Attention, names: &[String]) -> fmt::Result {
        let key = self.axis(attention.key);
        if let Some(sink) = attention.sink() {
            writeln!(f, "    sink {}", self.tensor(sink))?;
        }
        for reduction in &attention.reductions {
            let (value, output) = (self.tensor(reduction.value), self.tensor(reduction.output));
            let sum = if attention.combiner == Combiner::Sum { "weighted sum" } else { "average" };
            writeln!(f, "    {sum} of {value} over {key} -> {output}")?;
            self.write_scaled(f, reduction.scaled, names)?;
            if self.bf16_pairs.values {
                writeln!(f, "      by pairs of bf16, weights rounded to it")?;
            }
            if self.integers.values {
                writeln!(f, "      by pairs of integers, weights rounded to 16 bits")?;
            }
        }
        if let Some(log_sum) = attention.log_sum() {
            writeln!(f, "    log-sum-exp {} -> {}", names[log_sum.value.index()], self.tensor(log_sum.output))?;
            if let Some(term) = log_sum.query_term.filter(|_| log_sum.query_term != attention.query_term) {
                writeln!(f, "      query term {}", self.tensor(term))?;
            }
        }
        Ok(())
    }

    /// The tiles of a decode kernel, and the rows that it computes while it loads them.
    pub(super) fn write_rows(&self, f: &mut impl fmt::Write, decode: &Decode) -> fmt::Result {
        if let Some(packed) = self.attention.as_ref().and_then(|attention| attention.packed) {
            writeln!(f, "    packed: rows of {} of {} in a tile", packed.heads, self.axis(packed.axis))?;
        }
        self.write_loaded(f)?;
        if decode.key_term.is_some() {
            writeln!(f, "    key term computed for each key tile: no table of it is made")?;
        }
        let (rows, keys, lanes) = (self.tiling.queries(), self.tiling.keys, self.machine.lanes);
        writeln!(f, "    tiles of {rows} rows x {keys} keys, chunks of {} keys; {lanes} lanes", decode.chunk_keys)?;
        for tile in &decode.tiles {
            let RowTile { rows, key_groups, columns } = *tile;
            let keys = RowTile::GROUP * key_groups;
            writeln!(
                f,
                "      {rows} rows: score registers {rows} x {keys} keys, average registers {rows} x {columns}"
            )?;
        }
        Ok(())
    }

    /// The rows that are computed while they are loaded.
    fn write_loaded(&self, f: &mut impl fmt::Write) -> fmt::Result {
        self.schedule.loaded().iter().try_for_each(|Loaded { table, placed, input }| {
            let of = input.map_or(String::new(), |input| format!(" of rows of `{}`", self.tensors[input].name));
            writeln!(f, "    computed while loaded: {}{of}", self.tensor(table.target))?;
            writeln!(f, "      {placed}")
        })
    }

    /// The tiles of a prefill kernel, and the rows that it computes for each key tile.
    pub(super) fn write_tiles(&self, f: &mut impl fmt::Write) -> fmt::Result {
        self.write_loaded(f)?;
        let tiling = &self.tiling;
        writeln!(
            f,
            "    tiles of {} queries x {} keys, {} in turn; {} lanes",
            tiling.queries(),
            tiling.keys,
            tiling.query_tiles_per_task,
            self.machine.lanes
        )?;
        for shape in &tiling.shapes {
            let (queries, columns) = (shape.queries, shape.columns);
            let (keys, values) = (shape.key_rows, shape.value_rows);
            let chains = if shape.partial_sums > 1 { format!(" x {}", shape.partial_sums) } else { String::new() };
            writeln!(
                f,
                "      up to {queries} queries: score registers {keys} x {columns}{chains}, average registers {values} x {columns}"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.graph.value_names().into_iter().map(|name| format!("%{name}")).collect();
        writeln!(f, "plan {}", self.graph.name)?;
        self.write_tensors(f)?;
        self.write_tables(f, &names)?;
        let Some(attention) = &self.attention else { return Ok(()) };
        self.write_loops(f, attention, &names)?;
        self.write_score(f, attention, &names)?;
        self.write_results(f, attention, &names)?;
        f.write_str(&self.schedule_text())
    }
}
