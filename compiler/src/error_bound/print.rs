//! The bound as text: what a user can evaluate of it.

use std::collections::BTreeMap;
use std::fmt;

use rhumb_ir::{Binary, Elem, Op, Output, Scalar, Unary, Value};

use super::sums::Rounded;
use super::{ErrorBound, hinges};
use crate::plan::{Attention, Combiner, Plan, Product, RUN, Reduction, Scaled, Source, Storage, TensorId};

/// Counts the roundings that a value is off by: none where something beside sums and products takes part.
struct Roundings<'p> {
    plan: &'p Plan,
    known: BTreeMap<Value, Option<usize>>,
}

impl Roundings<'_> {
    /// Of a tensor as single precision reads it.
    fn tensor(&mut self, id: TensorId) -> Option<usize> {
        let Some(step) = self.plan.tables.iter().find(|step| step.target == id) else { return Some(0) };
        match (&step.source, step.double) {
            (_, true) => Some(usize::from(matches!(self.plan.tensors[id].storage, Storage::F32 | Storage::F64))),
            (Source::Value(value), false) => self.op(*value),
            _ => None,
        }
    }

    /// Of rows of keys or values: of what is moved out of products too.
    fn rows(&mut self, id: TensorId, scaled: Option<Scaled>) -> Option<usize> {
        match scaled {
            Some(scaled) => self.value(scaled.rows),
            None => self.tensor(id),
        }
    }

    fn value(&mut self, value: Value) -> Option<usize> {
        if let Some(known) = self.known.get(&value) {
            return *known;
        }
        let count = match self.plan.table_of.get(&Source::Value(value)) {
            Some(&table) if self.plan.tables.iter().any(|step| step.target == table) => self.tensor(table),
            Some(&table) => Some(usize::from(self.plan.tensors[table].storage == Storage::F64)),
            None => self.op(value),
        };
        self.known.insert(value, count);
        count
    }

    /// All operands are known, so that no walk is deeper than one op.
    fn of(&self, value: Value) -> Option<usize> {
        self.known.get(&value).copied().flatten()
    }

    fn op(&mut self, root: Value) -> Option<usize> {
        let graph = &self.plan.graph;
        let has_table = |value: Value| self.plan.table_of.contains_key(&Source::Value(value));
        let needed = graph.below_in_order([root], |value| value == root || !has_table(value));
        for value in needed.into_iter().filter(|value| *value != root) {
            if !self.known.contains_key(&value) {
                let count = match self.plan.table_of.contains_key(&Source::Value(value)) {
                    true => self.value(value),
                    false => self.one(value),
                };
                self.known.insert(value, count);
            }
        }
        self.one(root)
    }

    fn one(&self, value: Value) -> Option<usize> {
        let graph = &self.plan.graph;
        let all = |of: &[Value]| of.iter().map(|x| self.of(*x)).collect::<Option<Vec<usize>>>();
        let most = |of: &[Value]| all(of).and_then(|counts| counts.into_iter().max());
        let total = |of: &[Value]| all(of).map(|counts| counts.into_iter().sum::<usize>());
        match graph.op(value) {
            Op::Const(Scalar::F32(x)) => Some(usize::from(f64::from(*x as f32) != *x)),
            Op::Input { .. } | Op::Const(_) | Op::Iota(_) | Op::Size(_) => Some(0),
            // Integers of few bits are exact.
            Op::Cast(Elem::F32, x) if matches!(graph.op(*x), Op::Input { elem, .. } if elem.is_stored_only()) => {
                self.of(*x)
            }
            Op::Cast(Elem::F32, x) => Some(self.of(*x)? + usize::from(graph.ty(*x).elem == Elem::I32)),
            Op::Cast(_, x) if graph.ty(*x).elem == Elem::F32 => self.of(*x).filter(|count| *count == 0),
            Op::Unary(Unary::Neg | Unary::Abs | Unary::Not, x) | Op::Cast(_, x) => self.of(*x),
            Op::Binary(op, a, b) if graph.ty(value).elem == Elem::F32 => match op {
                Binary::Add | Binary::Sub => Some(most(&[*a, *b])? + 1),
                Binary::Mul | Binary::Div => Some(total(&[*a, *b])? + 1),
                Binary::Min | Binary::Max => most(&[*a, *b]),
                _ => None,
            },
            // Operands of integers and truth values are exact, or not counted.
            Op::Binary(_, a, b) | Op::Compare(_, a, b) => total(&[*a, *b]).filter(|count| *count == 0),
            Op::Select { cond, on_true, on_false } => {
                self.of(*cond).filter(|count| *count == 0)?;
                most(&[*on_true, *on_false])
            }
            Op::Gather { table, index, axis: _ } => {
                self.of(*index).filter(|count| *count == 0)?;
                self.of(*table)
            }
            // The cosine or sine, its product, and the sum of two.
            Op::Rotate { x, .. } => Some(self.of(*x)? + 3),
            Op::Dot { a, b, axis } => Some(total(&[*a, *b])? + graph.static_extent(*axis)? as usize),
            _ => None,
        }
    }
}

impl fmt::Display for ErrorBound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error bound, u = 2^-24")?;
        let names: Vec<String> = self.plan.graph.value_names().into_iter().map(|name| format!("%{name}")).collect();
        match &self.plan.attention {
            Some(attention) => {
                self.attention(f, attention, &names)?;
                for step in self.plan.tables.iter().filter(|step| step.after) {
                    writeln!(
                        f,
                        "  `{}`: what its ops make of these, each rounded once",
                        self.plan.tensors[step.target].name
                    )?;
                }
            }
            None => writeln!(f, "  as its ops: what each is off by, rounded once")?,
        }
        for Output { name, elem, .. } in self.plan.graph.outputs().iter().filter(|output| output.elem.is_stored_only())
        {
            let digits = elem.digits().unwrap_or_default();
            writeln!(f, "  `{name}` is rounded to {elem}: 2^-{digits} |{name}|")?;
        }
        Ok(())
    }
}

impl ErrorBound<'_> {
    /// The error of the dots of query and key, with some more roundings.
    fn dots(&self, of: &Attention, roundings: &mut Roundings<'_>, names: &[String], more: usize) -> String {
        let dots: Vec<String> = of.products.iter().map(|product| self.dot(product, roundings, names, more)).collect();
        dots.join(" + ")
    }

    fn dot(&self, product: &Product, roundings: &mut Roundings<'_>, names: &[String], more: usize) -> String {
        let sides = roundings.value(product.query).zip(roundings.rows(product.key, product.scaled));
        let (own, and) = match sides {
            Some((a, b)) => (a + b, ""),
            None => (0, " + what these are off by"),
        };
        let (query, key) = (&names[product.query.index()], &self.plan.tensors[product.key].name);
        let all = if self.plan.is_by_distance(product) { "the greatest " } else { "" };
        let rounded = match self.sums.orders[product.index].is_of_integers() {
            true => format!(" + 2^-16 max|{query}| sum|`{key}`|"),
            false => String::new(),
        };
        format!("{all}{} u sum|{query} `{key}`|{rounded}{and}", self.sums.products[product.index] + own + more)
    }

    /// What the errors of values add to a sum, by the sum of all weighted values and that of weights.
    fn of_values(&self, roundings: &mut Roundings<'_>, of: &Reduction, (sum, weights): (&str, &str)) -> String {
        match roundings.rows(of.value, of.scaled) {
            Some(0) => String::new(),
            Some(count) => format!(" + {count} u {sum}"),
            None => format!(" + {weights} (what `{}` is off by)", self.plan.tensors[of.value].name),
        }
    }

    /// The errors of sums without a softmax.
    fn weighted_sums(&self, f: &mut fmt::Formatter<'_>, of: &Attention, roundings: &mut Roundings<'_>) -> fmt::Result {
        let (plan, sums) = (self.plan, &self.sums);
        for reduction in &of.reductions {
            let off = self.of_values(roundings, reduction, ("sum|W v|", "sum |W|"));
            let output = &plan.tensors[reduction.output].name;
            let keys = sums.keys + 1;
            writeln!(f, "  `{output}`: sum (that of W) |v|{off} + min(N, {keys} + tiles) u sum|W v| + u |out|")?;
        }
        writeln!(f, "  of N keys of weights other than 0, in at most N / {} + 2 tiles; to first order in u", sums.least)
    }

    fn attention(&self, f: &mut fmt::Formatter<'_>, of: &Attention, names: &[String]) -> fmt::Result {
        let mut roundings = Roundings { plan: self.plan, known: BTreeMap::new() };
        self.score(f, of, &mut roundings, names)?;
        if of.combiner == Combiner::Sum {
            return self.weighted_sums(f, of, &mut roundings);
        }
        writeln!(
            f,
            "  weight W = 2^(S - T), T the greatest score: E = ln 2 (that of S + u (T - S + 16)) + (5 + 3 (T - S) / 8) u of it"
        )?;
        writeln!(f, "  weight W below 2^-100 may be 0")?;
        self.averages(f, of, &mut roundings, names)
    }

    /// The errors of scores, or of weights without a softmax.
    fn score(
        &self,
        f: &mut fmt::Formatter<'_>,
        of: &Attention,
        roundings: &mut Roundings<'_>,
        names: &[String],
    ) -> fmt::Result {
        let name = |value: Value| &names[value.index()];
        write!(f, "{}", if of.combiner == Combiner::Sum { "  weight W:" } else { "  score S:" })?;
        let (terms, hinges) = (self.plan.terms_beside_hinges(of), &self.plan.hinges);
        let count = terms.len() + usize::from(hinges.is_some());
        for (n, term) in terms.iter().enumerate() {
            // Each is rounded by the sums after it.
            let adds = count - n.max(1);
            let plus = if n == 0 { "" } else { " +" };
            match of.dot {
                Some(dot) if dot == term.value => {
                    write!(f, "{plus} {}", self.dots(of, roundings, names, adds))?;
                }
                _ => match roundings.value(term.value) {
                    Some(own) => write!(f, "{plus} {} u |{}|", own + adds, name(term.value))?,
                    None if adds == 0 => write!(f, "{plus} what {} is off by", name(term.value))?,
                    None => write!(f, "{plus} {adds} u |{0}| + what {0} is off by", name(term.value))?,
                },
            }
        }
        if let Some(hinges) = hinges {
            let plus = if terms.is_empty() { "" } else { " +" };
            let (count, x) = (hinges::roundings(hinges), name(hinges.x));
            write!(f, "{plus} {count} u sum |w| (|a {x}| + |b| + |z|) of hinges w max(a {x} + b, z)")?;
            write!(f, " + what these are off by")?;
        }
        if of.key_term.is_some() {
            let plus = if count == 0 { "" } else { " +" };
            write!(f, "{plus} u |K - R| + 3 u |S - R|, K its key term, R the greatest that the query sees")?;
        } else if count == 0 {
            write!(f, " 0")?;
        }
        writeln!(f)?;
        if let Some(dot) = of.dot.filter(|dot| of.terms.iter().all(|term| term.value != *dot)) {
            writeln!(f, "  {} in it: {}", name(dot), self.dots(of, roundings, names, 0))?;
        }
        Ok(())
    }

    /// The errors of averages and of the log-sum-exp.
    fn averages(
        &self,
        f: &mut fmt::Formatter<'_>,
        of: &Attention,
        roundings: &mut Roundings<'_>,
        names: &[String],
    ) -> fmt::Result {
        let (plan, sums) = (self.plan, &self.sums);
        let (run, most) = (RUN + sums.keys.div_ceil(RUN), sums.keys);
        for reduction in &of.reductions {
            let moved = self.of_values(roundings, reduction, ("sum W|v|", "sum W"));
            let output = &plan.tensors[reduction.output].name;
            let rounded = match sums.weights {
                Rounded::No => "",
                Rounded::Bf16 => " + 2^-8 sum W|v|",
                Rounded::Integers => " + 2^-16 sum M|v / s|",
            };
            writeln!(
                f,
                "  `{output}`: (sum W E |v - out|{moved} + min(N, {} + tiles) u sum W|v|{rounded}) / sum W + (min(N, {run} + tiles) + 5) u |out|",
                most + 1
            )?;
        }
        if sums.weights == Rounded::Integers {
            writeln!(f, "  M the greatest W s of the key tile, s the scale of a key's values")?;
        }
        if let Some(log_sum) = of.log_sum() {
            let output = &plan.tensors[log_sum.output].name;
            writeln!(
                f,
                "  `{output}`: in {}, (sum W E / sum W + min(N, {run} + tiles) u) / ln 2; then 2 u |{output}|",
                names[log_sum.leaf.index()]
            )?;
        }
        writeln!(f, "  of N keys seen, in at most N / {} + 2 tiles; to first order in u", sums.least)
    }
}
