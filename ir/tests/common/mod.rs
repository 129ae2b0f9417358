//! Random graphs.
#![allow(dead_code, reason = "each test takes what it needs")]

use rhumb_ir::{
    Attr, Attrs, Axis, AxisInfo, AxisSet, Base, Binary, Bindings, Compare, Elem, Expr, Extent, GraphBuilder, Hook, Op,
    Pairing, Site, Tensor, Unary, Verified,
};
use rhumb_random::Rng;

/// One of some; none of none.
pub(crate) fn any<T: Copy>(random: &mut Rng, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| random.pick(from))
}

fn real(random: &mut Rng) -> f64 {
    const SPECIAL: [f64; 12] =
        [0.0, -0.0, 1.0, -1.0, 0.1, 1e-300, 1e300, 5e-324, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX];
    match random.below(4) {
        0 => random.pick(&SPECIAL),
        1 => random.below(20) as f64 - 10.0,
        _ => (random.bits() as i64 as f64) / (i64::MAX as f64) * 4.0,
    }
}

fn int(random: &mut Rng) -> i32 {
    match random.below(4) {
        0 => random.pick(&[i32::MIN, i32::MAX, 0, -1]),
        _ => random.below(20) as i32 - 10,
    }
}

struct Made<'g> {
    random: &'g mut Rng,
    b: &'g GraphBuilder,
    values: Vec<Expr<'g>>,
}

impl<'g> Made<'g> {
    fn value(&mut self, test: impl Fn(Elem, AxisSet) -> bool) -> Option<Expr<'g>> {
        let fit: Vec<Expr<'g>> = self.values.iter().copied().filter(|x| test(x.ty().elem, x.ty().axes)).collect();
        any(self.random, &fit)
    }

    fn of(&mut self, elem: Elem) -> Option<Expr<'g>> {
        self.value(|e, _| e == elem)
    }

    fn axis_of(&mut self, x: Expr<'g>) -> Option<Axis> {
        let axes: Vec<Axis> = x.ty().axes.iter().collect();
        any(self.random, &axes)
    }

    /// Whether a value over `axes` is free of `axis` and of axes related to it.
    fn free(&self, axes: AxisSet, axis: Axis) -> bool {
        let groups = |axis| self.b.axis_info(axis).and_then(|info| info.groups);
        axes.iter().all(|a| a != axis && groups(a) != Some(axis) && groups(axis) != Some(a))
    }

    fn step(&mut self, schemes: bool) -> Option<Expr<'g>> {
        let b = self.b;
        Some(match self.random.below(if schemes { 16 } else { 14 }) {
            0 => match self.random.below(3) {
                0 => b.scalar(real(self.random)),
                1 => b.int(int(self.random)),
                _ => b.bool(self.random.below(2) == 1),
            },
            1 => {
                let axis = b.axis_named(["h", "g", "q", "k", "d", "j"][self.random.below(6)])?;
                if self.random.below(2) == 0 { b.iota(axis) } else { b.size(axis) }
            }
            2 => self.table(),
            3 | 4 => self.unary()?,
            5 | 6 => self.binary()?,
            7 => {
                let op = Compare::ALL[self.random.below(Compare::ALL.len())];
                let elem = [Elem::F32, Elem::I32][self.random.below(2)];
                b.push(Op::Compare(op, self.of(elem)?.value(), self.of(elem)?.value()))
            }
            8 => {
                let elem = [Elem::F32, Elem::I32, Elem::Bool][self.random.below(3)];
                let (cond, on_true, on_false) = (self.of(Elem::Bool)?, self.of(elem)?, self.of(elem)?);
                cond.select(on_true, on_false)
            }
            9 => {
                let elem = [Elem::F32, Elem::I32][self.random.below(2)];
                self.value(|_, _| true)?.cast(elem)
            }
            10 => {
                let table = self.value(|_, axes| !axes.is_empty())?;
                let (axis, index) = (self.axis_of(table)?, self.of(Elem::I32)?);
                table.gather(axis, index)
            }
            11 => self.rotation()?,
            12 => {
                let x = self.value(|e, axes| e == Elem::F32 && !axes.is_empty())?;
                let axis = self.axis_of(x)?;
                x.dot(self.value(|e, axes| e == Elem::F32 && axes.contains(axis))?, axis)
            }
            13 => self.normalised()?,
            _ => self.scheme()?,
        })
    }

    /// A table of few elements.
    fn table(&mut self) -> Expr<'g> {
        let b = self.b;
        let dims: &[&str] = [&["h"][..], &["j", "g"], &["d"], &[]][self.random.below(4)];
        let dims: Vec<Axis> = dims.iter().filter_map(|name| b.axis_named(name)).collect();
        let count: usize = dims.iter().map(|dim| static_length(b, *dim)).product();
        match self.random.below(3) {
            0 => b.table(dims, (0..count).map(|_| real(self.random)).collect::<Vec<_>>()),
            1 => b.int_table(dims, &(0..count).map(|_| int(self.random)).collect::<Vec<_>>()),
            _ => {
                let data = (0..count).map(|_| self.random.below(2) as f64).collect();
                b.push(Op::Table { dims, elem: Elem::Bool, data })
            }
        }
    }

    /// An op of one operand.
    fn unary(&mut self) -> Option<Expr<'g>> {
        let b = self.b;
        let op = Unary::ALL[self.random.below(Unary::ALL.len())];
        let x = match op {
            Unary::Not => self.of(Elem::Bool)?,
            Unary::Neg | Unary::Abs => self.value(|e, _| e != Elem::Bool)?,
            _ => self.of(Elem::F32)?,
        };
        Some(b.push(Op::Unary(op, x.value())))
    }

    /// An op of two operands.
    fn binary(&mut self) -> Option<Expr<'g>> {
        let b = self.b;
        let op = Binary::ALL[self.random.below(Binary::ALL.len())];
        let elem = match op {
            Binary::And | Binary::Or => Elem::Bool,
            Binary::Pow => Elem::F32,
            _ => [Elem::F32, Elem::I32][self.random.below(2)],
        };
        let (x, y) = (self.of(elem)?, self.of(elem)?);
        Some(b.push(Op::Binary(op, x.value(), y.value())))
    }

    /// A rotation.
    fn rotation(&mut self) -> Option<Expr<'g>> {
        let b = self.b;
        let (d, j) = (b.axis_named("d")?, b.axis_named("j")?);
        let x = self.value(|e, axes| e == Elem::F32 && axes.contains(d) && !axes.contains(j))?;
        let angle = self.value(|e, axes| e == Elem::F32 && axes.contains(j) && !axes.contains(d))?;
        let pairing = Pairing::ALL[self.random.below(2)];
        let spare = static_length(b, d) - 2 * static_length(b, j);
        Some(x.rotate(angle, d, j, pairing, self.random.below(spare + 1) as u32))
    }

    /// A softmax or a log-sum-exp.
    fn normalised(&mut self) -> Option<Expr<'g>> {
        let b = self.b;
        let x = self.value(|e, axes| e == Elem::F32 && !axes.is_empty())?;
        let axis = self.axis_of(x)?;
        let free: Vec<Expr<'g>> = self.values.iter().copied().filter(|x| self.free(x.ty().axes, axis)).collect();
        let free: Vec<Expr<'g>> = free.into_iter().filter(|x| x.ty().elem == Elem::F32).collect();
        let sink = if self.random.below(2) == 0 { any(self.random, &free) } else { None }.map(Expr::value);
        let base = [Base::E, Base::Two][self.random.below(2)];
        let (x, softmax) = (x.value(), self.random.below(2) == 0);
        Some(b.push(if softmax { Op::Softmax { x, axis, sink, base } } else { Op::LogSumExp { x, axis, sink, base } }))
    }

    /// A scheme op at a site of its own.
    fn scheme(&mut self) -> Option<Expr<'g>> {
        let b = self.b;
        let axis = |name| b.axis_named(name);
        let (q, k) = (axis("q")?, axis("k")?);
        let (length, index, k_index) = (b.size(k), b.iota(q), b.iota(k));
        let site = b.site(Site {
            query: q,
            key: k,
            head: axis("h").filter(|_| self.random.below(2) == 0),
            dim: axis("d")?,
            q_pos: index.value(),
            k_pos: k_index.value(),
            q_index: index.value(),
            k_index: k_index.value(),
            length: length.value(),
        });
        let mut attrs = Attrs::new();
        for name in ["base", "theta_0", "a name", "pairing"].iter().take(self.random.below(5)) {
            let attr = match self.random.below(6) {
                0 => Attr::Bool(self.random.below(2) == 0),
                1 => Attr::Int(self.random.bits() as i64),
                2 => Attr::Float(real(self.random)),
                3 => Attr::Str("half \"or\"\n\\ \u{e9}\u{1f600}\u{7}".to_owned()),
                4 => Attr::List((0..self.random.below(40)).map(|_| real(self.random)).collect()),
                _ => Attr::Value(self.value(|_, _| true)?.value()),
            };
            attrs.insert((*name).to_owned(), attr);
        }
        let name = ["rope", "my scheme", "x.y", "over"][self.random.below(4)];
        Some(match self.random.below(4) {
            0 => b.scheme_mask(name, site, attrs),
            hook => b.scheme(name, [Hook::Query, Hook::Key, Hook::Score][hook - 1], self.of(Elem::F32)?, site, attrs),
        })
    }
}

fn static_length(b: &GraphBuilder, axis: Axis) -> usize {
    match b.axis_info(axis).map(|info| info.extent) {
        Some(Extent::Static(n)) => n as usize,
        _ => 0,
    }
}

/// A verified graph of about `size` ops over the axes h, g (groups of h), q, k (dynamic), d and j.
pub(crate) fn graph(random: &mut Rng, size: usize, schemes: bool) -> Verified {
    let b = GraphBuilder::new(["g", "a graph", "", "graph"][random.below(4)]);
    let h = b.declare(AxisInfo { name: "h".to_owned(), extent: Extent::Static(6), groups: None });
    let (g, q, k) = (b.groups("g", [1, 2, 3, 6][random.below(4)], h), b.axis("q"), b.axis("k"));
    let (d, _) = (b.axis_of("d", 5), b.axis_of("j", 1 + random.below(2) as u32));
    let values = vec![
        b.input("q", Elem::F32, [h, q, d]),
        b.input("k", Elem::F32, [k, g, d]),
        b.input("ids", Elem::I32, [k]),
        b.input("an input", Elem::Bool, [q]),
        b.input("half", Elem::F16, [d]),
        b.input("brain", Elem::Bf16, [h]),
    ];
    let mut made = Made { random, b: &b, values };
    for _ in 0..size {
        if let Some(mut x) = made.step(schemes) {
            if made.random.below(3) == 0 {
                x = x.label(["x", "score", "q", "not a name", "x.2", "7"][made.random.below(6)]);
            }
            made.values.push(x);
        }
    }
    for i in 0..3 {
        if let Some(x) = made.value(|_, _| true) {
            let mut dims: Vec<Axis> = x.ty().axes.iter().collect();
            if !dims.is_empty() {
                let n = made.random.below(dims.len());
                dims.rotate_left(n);
            }
            let elem = match x.ty().elem {
                Elem::F32 => [Elem::F32, Elem::F32, Elem::F16, Elem::Bf16][made.random.below(4)],
                elem => elem,
            };
            b.output_as(&format!("out {i}"), elem, x, dims);
        }
    }
    b.finish().unwrap_or_else(|error| panic!("the generator makes well-formed graphs\n{error}"))
}

/// Tensors for [`graph`].
pub(crate) fn bindings(random: &mut Rng, graph: &Verified, q: usize, k: usize) -> Bindings {
    let mut bindings = Bindings::new();
    for (name, value) in graph.inputs() {
        let Op::Input { name: _, dims, elem } = graph.op(value) else { continue };
        let shape: Vec<usize> = dims
            .iter()
            .map(|dim| match (graph.static_extent(*dim), graph.axis(*dim).name.as_str()) {
                (Some(n), _) => n as usize,
                (None, "q") => q,
                (None, _) => k,
            })
            .collect();
        let count: usize = shape.iter().product();
        let tensor = match elem {
            Elem::F32 => Tensor::f32(shape, (0..count).map(|_| real(random)).collect::<Vec<_>>()),
            Elem::F16 | Elem::Bf16 | Elem::F8e4m3 => {
                Tensor { elem: *elem, shape, data: (0..count).map(|_| elem.rounded(real(random))).collect() }
            }
            Elem::I8 => {
                let data = (0..count).map(|_| random.below(256) as f64 - 128.0).collect();
                Tensor { elem: *elem, shape, data }
            }
            Elem::I32 => Tensor::i32(shape, (0..count).map(|_| int(random))),
            Elem::Bool => Tensor::bool(shape, (0..count).map(|_| random.below(2) == 1)),
        };
        bindings.insert(name.to_owned(), tensor);
    }
    bindings
}
