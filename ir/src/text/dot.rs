//! Graphs in the language of Graphviz.

use std::fmt::Write;

use super::print::{Data, Printer};
use crate::graph::Graph;
use crate::op::Op;
use crate::types::Axis;

/// A quoted string of the language, in which `text` stands for itself.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            // Other control characters have no place in a label.
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl Graph {
    /// The graph in the language of [Graphviz](https://graphviz.org): a node for each op and output, and an edge for each operand, with the
    /// type of what flows along it. Long data is shortened. Equal graphs give equal text.
    ///
    /// ```
    /// use rhumb_ir::Graph;
    ///
    /// let graph = Graph::parse("graph twice\naxis k = 4\n%x = input \"x\" : f32[k]\n%1 = add %x, %x : f32[k]\noutput \"y\" = %1 : f32[k]\n")?;
    /// let dot = graph.to_dot();
    /// assert!(dot.starts_with("digraph \"twice\" {\n"));
    /// assert_eq!(dot.matches("v0 -> v1 [label = \"f32[k]\"];").count(), 2);
    /// # Ok::<(), rhumb_ir::ParseError>(())
    /// ```
    pub fn to_dot(&self) -> String {
        let printer = Printer::new(self);
        let mut text = format!("digraph {} {{\n", quoted(&self.name));
        let axes: Vec<String> =
            (0..self.axes().len()).filter_map(Axis::from_index).map(|axis| printer.axis_line(axis)).collect();
        let title = std::iter::once(self.name.clone()).chain(axes).collect::<Vec<_>>().join("\n");
        // A string takes all that is written to it.
        let _ = writeln!(text, "  label = {};\n  labelloc = t;", quoted(&title));
        text.push_str("  node [shape = box, fontname = monospace];\n  edge [fontname = monospace, fontsize = 10];\n");
        for (value, node) in self.values().zip(self.nodes()) {
            let label = format!("{}\n{}", printer.value(value), printer.op(&node.op, Data::Short));
            let style = match node.op {
                Op::Input { .. } => ", shape = ellipse",
                Op::Const(_) | Op::Table { .. } => ", style = dashed",
                _ => "",
            };
            let _ = writeln!(text, "  v{} [label = {}{style}];", value.index(), quoted(&label));
            for operand in node.op.operands() {
                let ty = self.nodes().get(operand.index()).map_or_else(String::new, |node| printer.ty(node.ty));
                let _ = writeln!(text, "  v{} -> v{} [label = {}];", operand.index(), value.index(), quoted(&ty));
            }
        }
        for (index, output) in self.outputs().iter().enumerate() {
            let ty = self
                .nodes()
                .get(output.value.index())
                .map_or_else(String::new, |node| printer.shaped(node.ty.elem, output.dims.iter().copied()));
            let label = format!("output {:?}", output.name);
            let _ = writeln!(text, "  o{index} [label = {}, shape = ellipse, style = bold];", quoted(&label));
            let _ = writeln!(text, "  v{} -> o{index} [label = {}];", output.value.index(), quoted(&ty));
        }
        text.push_str("}\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use crate::{Elem, GraphBuilder};

    #[test]
    fn names_are_quoted() {
        let builder = GraphBuilder::new("a \"graph\" \\ of\nlines");
        let axis = builder.axis_of("k", 3);
        let x = builder.input("x\"] -> y [\t", Elem::F32, [axis]);
        builder.output("y", x * x, [axis]);
        let dot = builder.finish().expect("a graph").to_dot();
        assert!(dot.starts_with("digraph \"a \\\"graph\\\" \\\\ of\\nlines\" {\n"), "{dot}");
        // Quotes that are no part of a name come in pairs.
        for line in dot.lines() {
            let bare = line.replace("\\\\", "").replace("\\\"", "");
            assert!(bare.matches('"').count().is_multiple_of(2), "{line}");
        }
        assert!(!dot.contains('\t'), "{dot}");
    }
}
