//! Making a graph from another: what lowering, rewriting and other passes start from.

use crate::builder::{Expr, GraphBuilder};
use crate::graph::Graph;
use crate::op::{Op, Site, SiteId, Value};
use crate::verify::Verified;
use crate::walk::Walk;

impl Verified {
    /// Builds the graph anew, value by value.
    ///
    /// `each` is given the builder of the new graph, a value of this one, and its op with operands and site translated to the new graph;
    /// what it gives stands for the value from then on. `Ok(builder.push(op))` copies. Axes keep their order, so that their handles are
    /// good in both graphs; outputs keep their names, order, types and dimensions; labels go to the values that stand for theirs, unless
    /// those have one or were there before. Sites that no op refers to in the end are left out.
    ///
    /// ```
    /// use rhumb_ir::{Elem, GraphBuilder, Op, Unary};
    ///
    /// let b = GraphBuilder::new("twice");
    /// let k = b.axis("k");
    /// b.output("y", b.input("x", Elem::F32, [k]).exp(), [k]);
    /// let graph = b.finish()?;
    ///
    /// // e^x as 2^(x log2(e)).
    /// let rebuilt = graph.rebuild(|b, _, op| {
    ///     Ok::<_, std::convert::Infallible>(match op {
    ///         Op::Unary(Unary::Exp, x) => (b.expr(x) * std::f64::consts::LOG2_E).exp2(),
    ///         op => b.push(op),
    ///     })
    /// });
    /// let graph = rebuilt?.finish()?;
    /// assert!(matches!(graph.op(graph.outputs()[0].value), Op::Unary(Unary::Exp2, _)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn rebuild<E>(
        &self,
        mut each: impl for<'g> FnMut(&'g GraphBuilder, Value, Op) -> Result<Expr<'g>, E>,
    ) -> Result<GraphBuilder, E> {
        let builder = GraphBuilder::like(self);
        let mut map: Vec<Value> = Vec::with_capacity(self.nodes().len());
        let mut sites: Vec<Option<SiteId>> = vec![None; self.sites().len()];
        for (value, node) in self.values().zip(self.nodes()) {
            let mut op = node.op.map_operands(|operand| map[operand.index()]);
            if let Op::Scheme { site, .. } = &mut op {
                let old = site.index();
                *site = *sites[old]
                    .get_or_insert_with(|| builder.site(self.sites()[old].map_values(|value| map[value.index()])));
            }
            let before = builder.len();
            let expr = builder.local(each(&builder, value, op)?);
            if let Some(label) = &node.label
                && expr.value().index() >= before
                && !builder.is_labelled(expr)
            {
                let _ = expr.label(label);
            }
            map.push(expr.value());
        }
        for output in self.outputs() {
            let value = builder.expr(map[output.value.index()]);
            builder.output_as(&output.name, output.elem, value, output.dims.iter().copied());
        }
        builder.drop_unused_sites();
        Ok(builder)
    }

    /// The graph without the values that no output depends on; inputs stay, so that calls bind the same names.
    #[must_use]
    pub fn prune(&self) -> Verified {
        let inputs = self.inputs().map(|(_, value)| value);
        let mut walk = Walk::of(self.outputs().iter().map(|output| output.value).chain(inputs));
        let mut live = vec![false; self.nodes().len()];
        while let Some(value) = walk.next() {
            live[value.index()] = true;
            walk.enter(self.op(value).operands());
            if let Op::Scheme { site, .. } = self.op(value) {
                walk.enter(self.site(*site).values().map(|(_, value)| value));
            }
        }
        // Where each value goes; that of a dead one is never asked for.
        let mut next = 0;
        let map: Vec<Value> = live
            .iter()
            .map(|live| {
                let value = Value(next);
                next += u32::from(*live);
                value
            })
            .collect();
        let renamed = |value: Value| map[value.index()];
        let mut graph = Graph::clone(self);
        let mut keep = live.iter();
        graph.nodes.retain(|_| *keep.next().unwrap_or(&true));
        for node in &mut graph.nodes {
            node.op = node.op.map_operands(renamed);
        }
        graph.drop_unused_sites();
        graph.sites = graph.sites.iter().map(|site| site.map_values(renamed)).collect();
        for output in &mut graph.outputs {
            output.value = renamed(output.value);
        }
        Verified::still(graph)
    }
}

impl Graph {
    /// Removes the sites that no op refers to.
    pub(crate) fn drop_unused_sites(&mut self) {
        let mut used = vec![false; self.sites.len()];
        let site = |op: &Op| match op {
            Op::Scheme { site, .. } => Some(*site),
            _ => None,
        };
        for id in self.nodes.iter().filter_map(|node| site(&node.op)) {
            used[id.index()] = true;
        }
        let mut map: Vec<SiteId> = Vec::with_capacity(used.len());
        let mut kept: Vec<Site> = Vec::new();
        for (site, used) in self.sites.iter().zip(&used) {
            map.push(SiteId(kept.len() as u32));
            if *used {
                kept.push(*site);
            }
        }
        self.sites = kept;
        for node in &mut self.nodes {
            if let Op::Scheme { site, .. } = &mut node.op {
                *site = map[site.index()];
            }
        }
    }
}
