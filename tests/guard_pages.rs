//! Kernels touch no byte that is not theirs: every input and output, every table, the constants and the scratch memory lie between pages
//! that nothing may touch, once flush to the page before them and once to the one after. A kernel that leaves them ends the process.
#![allow(unsafe_code, reason = "slices of mapped pages, for as long as they are mapped")]

mod common;

use std::collections::BTreeMap;
use std::ops::Range;

use common::{Data, Layout, Lengths, Rng, Tensor, Tensors, inputs, outputs, scattered, targets};
use region::{Allocation, Protection};
use rhumb::compiler::Kernels;
use rhumb::ir::GraphBuilder;
use rhumb::prelude::*;
use rhumb::runtime::{Element, Guard, Kernel, bf16, f8e4m3, f16};

/// Elements between two inaccessible pages, next to one of them.
struct Guarded<T> {
    pages: Allocation,
    start: usize,
    len: usize,
    elements: std::marker::PhantomData<T>,
}

impl<T: Copy> Guarded<T> {
    fn new(data: &[T], guard: Guard) -> Guarded<T> {
        let (page, bytes) = (region::page::size(), size_of_val(data));
        let room = bytes.next_multiple_of(page);
        let pages = region::alloc(room + 2 * page, Protection::READ_WRITE).expect("pages");
        for start in [0, page + room] {
            // SAFETY: whole pages of this allocation, which nothing has a reference to.
            unsafe { region::protect(pages.as_ptr::<u8>().wrapping_add(start), page, Protection::NONE) }
                .expect("a guard");
        }
        let start = match guard {
            Guard::Before => page,
            Guard::After => page + room - bytes,
        };
        let mut guarded = Guarded { pages, start, len: data.len(), elements: std::marker::PhantomData };
        guarded.slice_mut().copy_from_slice(data);
        guarded
    }

    fn slice(&self) -> &[T] {
        let start = self.pages.as_ptr::<u8>().wrapping_add(self.start).cast::<T>();
        // SAFETY: `len` elements from there lie between the guards; the pages are mapped as long as `self` lives and were zeroed, which is
        // a value of the numbers that `T` is; pages, and ends of them less a number of elements, are aligned.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }

    fn slice_mut(&mut self) -> &mut [T] {
        let start = self.pages.as_mut_ptr::<u8>().wrapping_add(self.start).cast::<T>();
        // SAFETY: as above; `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
    }

    /// The bytes between the guards, whether they are the buffer's or not.
    fn between(&self) -> Range<usize> {
        let range = self.pages.as_range();
        range.start + region::page::size()..range.end - region::page::size()
    }
}

/// The memory of a tensor, from its lowest element to its highest.
enum Memory {
    F32(Guarded<f32>),
    F16(Guarded<f16>),
    Bf16(Guarded<bf16>),
    F8e4m3(Guarded<f8e4m3>),
    I8(Guarded<i8>),
    I32(Guarded<i32>),
}

/// A tensor whose memory is guarded.
struct Held {
    memory: Memory,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl Held {
    fn new(tensor: &Tensor, guard: Guard) -> Held {
        let (data, offset, shape, strides) = tensor.reached();
        let memory = match data {
            Data::F32(data) => Memory::F32(Guarded::new(&data, guard)),
            Data::I32(data) => Memory::I32(Guarded::new(&data, guard)),
            Data::F16(data) => Memory::F16(Guarded::new(&data, guard)),
            Data::Bf16(data) => Memory::Bf16(Guarded::new(&data, guard)),
            Data::F8e4m3(data) => Memory::F8e4m3(Guarded::new(&data, guard)),
            Data::I8(data) => Memory::I8(Guarded::new(&data, guard)),
            Data::Bool(_) => panic!("no call here has truth values"),
        };
        Held { memory, offset, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    fn view(&self) -> TensorView<'_> {
        match &self.memory {
            Memory::F32(data) => TensorView::with_offset(data.slice(), self.offset, &self.shape, &self.strides),
            Memory::F16(data) => TensorView::with_offset(data.slice(), self.offset, &self.shape, &self.strides),
            Memory::Bf16(data) => TensorView::with_offset(data.slice(), self.offset, &self.shape, &self.strides),
            Memory::F8e4m3(data) => TensorView::with_offset(data.slice(), self.offset, &self.shape, &self.strides),
            Memory::I8(data) => TensorView::with_offset(data.slice(), self.offset, &self.shape, &self.strides),
            Memory::I32(data) => TensorView::with_offset(data.slice(), self.offset, &self.shape, &self.strides),
        }
        .expect("a view")
    }

    fn view_mut(&mut self) -> TensorViewMut<'_> {
        match &mut self.memory {
            Memory::F32(data) => TensorViewMut::with_offset(data.slice_mut(), self.offset, &self.shape, &self.strides),
            Memory::F16(data) => TensorViewMut::with_offset(data.slice_mut(), self.offset, &self.shape, &self.strides),
            Memory::Bf16(data) => TensorViewMut::with_offset(data.slice_mut(), self.offset, &self.shape, &self.strides),
            Memory::F8e4m3(data) => {
                TensorViewMut::with_offset(data.slice_mut(), self.offset, &self.shape, &self.strides)
            }
            Memory::I8(data) => TensorViewMut::with_offset(data.slice_mut(), self.offset, &self.shape, &self.strides),
            Memory::I32(data) => TensorViewMut::with_offset(data.slice_mut(), self.offset, &self.shape, &self.strides),
        }
        .expect("a view")
    }

    fn bits(&self) -> Vec<u32> {
        match &self.memory {
            Memory::F32(data) => data.slice().iter().map(|x| x.to_bits()).collect(),
            Memory::F16(data) => data.slice().iter().map(|x| x.to_bits().into()).collect(),
            Memory::Bf16(data) => data.slice().iter().map(|x| x.to_bits().into()).collect(),
            Memory::F8e4m3(data) => data.slice().iter().map(|x| x.to_bits().into()).collect(),
            Memory::I8(data) => data.slice().iter().map(|x| x.cast_unsigned().into()).collect(),
            Memory::I32(data) => data.slice().iter().map(|x| *x as u32).collect(),
        }
    }
}

/// The outputs of a call on guarded tensors, bit by bit.
fn run(kernel: &Kernel, inputs: &Tensors, outputs: &Tensors, guard: Guard) -> BTreeMap<String, Vec<u32>> {
    let held = |tensors: &Tensors| {
        tensors.iter().map(|(name, tensor)| (name.clone(), Held::new(tensor, guard))).collect::<BTreeMap<_, _>>()
    };
    let (inputs, mut outputs) = (held(inputs), held(outputs));
    let mut call = kernel.call();
    for (name, tensor) in &inputs {
        call = call.input(name, tensor.view());
    }
    for (name, tensor) in &mut outputs {
        call = call.output(name, tensor.view_mut());
    }
    call.run().expect("runs");
    outputs.iter().map(|(name, tensor)| (name.clone(), tensor.bits())).collect()
}

/// A kernel for each end that buffers are flush to.
fn kernels(graph: &Verified, target: &Target) -> [(Guard, std::sync::Arc<Kernel>); 2] {
    [Guard::Before, Guard::After].map(|guard| {
        let engine = Engine::builder().target(target.clone()).threads(1).guard_pages(guard).build().expect("an engine");
        (guard, engine.compile(graph).expect("a kernel"))
    })
}

/// All kinds of code: what transforms queries and keys, terms and masks of all kinds, heads that are packed, odd sizes.
fn attentions() -> Vec<(&'static str, Attention)> {
    let rope = |d| Attention::heads(4).head_dim(d).kv_heads(2).scheme(Rope::new());
    vec![
        ("one element, causal", Attention::heads(2).head_dim(1).scheme(Causal)),
        (
            "15 elements on 17, window",
            Attention::heads(2).head_dim(15).value_dim(17).scheme(SlidingWindow::new(9)).lse(),
        ),
        ("17 elements on 15, bias", Attention::heads(3).head_dim(17).value_dim(15).kv_heads(1).bias(Batch::Each)),
        ("130 elements, packed", Attention::heads(4).head_dim(130).kv_heads(1).scheme(Causal)),
        ("rope, packed", rope(16).scheme(Causal).lse()),
        (
            "rope, 18 elements, interleaved",
            Attention::heads(2).head_dim(18).scheme(Rope::new().interleaved().rotary_dim(10).start(3)),
        ),
        ("rope, slopes", rope(32).scheme(Alibi::new()).scheme(Causal).sinks()),
        ("alibi", Attention::heads(2).head_dim(8).scheme(Alibi::new().slopes([0.5, 4.0])).scheme(Causal).lse()),
        ("alibi without causal", Attention::heads(2).head_dim(20).scheme(Alibi::new().symmetric()).softcap(5.0)),
        ("documents, lengths", Attention::heads(2).head_dim(8).documents(Batch::Each).key_lengths()),
        ("positions", rope(8).q_positions(Elem::I32, Batch::Each).k_positions(Elem::I32, Batch::Shared).scheme(Causal)),
        (
            "16 bits, 17 elements on 15",
            Attention::heads(2).head_dim(17).value_dim(15).kv_heads(1).elem(Elem::F16).scheme(Causal),
        ),
        (
            "8 bits, 17 elements on 15",
            Attention::heads(2)
                .head_dim(17)
                .value_dim(15)
                .kv_heads(1)
                .cache_elem(Elem::I8)
                .zero_points()
                .scheme(Causal),
        ),
        ("8 bits, whole vectors", Attention::heads(4).head_dim(64).kv_heads(2).cache_elem(Elem::I8).lse()),
        ("floats of 8 bits, rope", rope(16).key_elem(Elem::F8e4m3).value_elem(Elem::I8)),
        ("16 bits, whole vectors", Attention::heads(4).head_dim(64).kv_heads(2).elem(Elem::Bf16).lse()),
        ("16 bits, rope", rope(16).elem(Elem::Bf16).value_elem(Elem::F16).scheme(Alibi::new())),
        ("grid", Attention::heads(2).head_dim(16).scheme(Rope2d::grid(9, 7))),
        (
            "buckets",
            Attention::heads(2).head_dim(8).score_with(|cx, score| {
                let bucket = cx.axis("bucket", 5);
                let table = cx.table(&[bucket], [0.1, -0.2, 0.3, -0.4, 0.5]);
                score + table.gather(bucket, cx.k_index() - cx.q_index() + 2)
            }),
        ),
    ]
}

#[test]
fn kernels_stay_within_their_memory() {
    let sizes = [(1, 1), (15, 17), (17, 15), (1, 130), (130, 129), (64, 48), (0, 5), (5, 0)];
    for (name, attention) in attentions() {
        let graph = attention.build().expect("a graph");
        for target in &targets() {
            let kernels = kernels(&graph, target);
            for (number, (queries, keys)) in sizes.into_iter().enumerate() {
                let rng = &mut Rng::new(number as u64);
                let interface = kernels[0].1.interface();
                let lengths = Lengths { batch: 2, queries, keys };
                let dense = inputs(rng, interface, lengths);
                let mut infinite = scattered(rng, &dense);
                if let Some(v) = infinite.get_mut("v") {
                    // The last value: what code that keeps hidden values from queries is for.
                    let last = v.shape().iter().product::<usize>().saturating_sub(1);
                    v.replace(|index| (index == last).then_some(f64::NAN));
                }
                for (tensors, layout) in [(&dense, Layout::Rows), (&infinite, Layout::Padded)] {
                    let out = outputs(interface, lengths, |_| layout.clone());
                    let [before, after] = [0, 1].map(|side| run(&kernels[side].1, tensors, &out, kernels[side].0));
                    assert!(before == after, "{name}, {target}, {queries} x {keys}, {layout:?}");
                }
            }
        }
    }
}

/// The output of a graph, guarded and by the reference.
fn check(graph: &Verified, tensors: &Tensors, shape: &[usize]) {
    let out = Tensor::unwritten(shape, &Layout::Rows);
    let name = |tensor: &Tensor| Tensors::from([("out".to_owned(), tensor.clone())]);
    let mut expected = name(&out);
    let engine = Engine::builder().threads(1).build().expect("an engine");
    common::run(engine.reference(graph).expect("a reference").call(), tensors, &mut expected).expect("runs");
    for target in &targets() {
        for (guard, kernel) in kernels(graph, target) {
            let bits = run(&kernel, tensors, &name(&out), guard).remove("out").expect("an output");
            let found: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            let found = name(&Tensor::f32(shape, found));
            common::hold(&kernel, tensors, &found, &expected, format_args!("{guard:?}"));
        }
    }
}

/// What is gathered along the axis of queries is found by the index alone.
#[test]
fn gathers_along_queries_stay_within_the_table() {
    const QUERIES: usize = 200;
    let g = GraphBuilder::new("gathered");
    let (q, k, d) = (g.axis("q"), g.axis("k"), g.axis_of("d", 8));
    let [queries, keys, values] =
        [("q", q), ("k", k), ("v", k)].map(|(name, axis)| g.input(name, Elem::F32, [axis, d]));
    let shift = g.input("shift", Elem::F32, [q]);
    let score = queries.dot(keys, d) + shift.gather(q, g.iota(q) - g.iota(k));
    g.output("out", score.softmax(k).dot(values, k), [q, d]);
    let graph = g.finish().expect("a graph");
    let rng = &mut Rng::new(1);
    let shapes = [("q", vec![QUERIES, 8]), ("k", vec![70, 8]), ("v", vec![70, 8]), ("shift", vec![QUERIES])];
    let tensors = shapes.map(|(name, shape)| (name.to_owned(), Tensor::normal(rng, shape)));
    check(&graph, &tensors.into(), &[QUERIES, 8]);
}

/// A tensor over groups of queries is read at the group of each lane.
#[test]
fn groups_of_queries_stay_within_the_tensor() {
    const QUERIES: u32 = 10;
    let g = GraphBuilder::new("grouped");
    let (q, k, d) = (g.axis_of("q", QUERIES), g.axis("k"), g.axis_of("d", 8));
    let group = g.groups("group", 5, q);
    let [queries, keys, values] =
        [("q", q), ("k", k), ("v", k)].map(|(name, axis)| g.input(name, Elem::F32, [axis, d]));
    let score = queries.dot(keys, d) + g.input("bias", Elem::F32, [group, k]);
    g.output("out", score.softmax(k).dot(values, k), [q, d]);
    let graph = g.finish().expect("a graph");
    let rng = &mut Rng::new(1);
    let shapes = [("q", vec![10, 8]), ("k", vec![70, 8]), ("v", vec![70, 8]), ("bias", vec![5, 70])];
    let tensors = shapes.map(|(name, shape)| (name.to_owned(), Tensor::normal(rng, shape)));
    check(&graph, &tensors.into(), &[10, 8]);
}

/// Long heads: sums in parts by a loop, rows of many cache lines.
#[test]
fn long_heads_stay_within_their_memory() {
    for (d, e) in [(1025, 3), (2501, 1300)] {
        let attention = Attention::heads(1).head_dim(d).value_dim(e).scheme(Causal).build().expect("a graph");
        let rng = &mut Rng::new(1);
        let (d, e) = (d as usize, e as usize);
        let shapes = [("q", vec![1, 1, 20, d]), ("k", vec![1, 1, 19, d]), ("v", vec![1, 1, 19, e])];
        let tensors = shapes.map(|(name, shape)| (name.to_owned(), Tensor::normal(rng, shape)));
        check(&attention, &tensors.into(), &[1, 1, 20, e]);
    }
}

/// More keys and values than caches have: rows of the next task are asked for too, and those of the last have none after them.
#[test]
fn long_caches_stay_within_their_memory() {
    let attention = Attention::heads(4).head_dim(128).kv_heads(2).build().expect("a graph");
    let rng = &mut Rng::new(1);
    let shapes = [("q", vec![1, 4, 1, 128]), ("k", vec![1, 2, 16501, 128]), ("v", vec![1, 2, 16501, 128])];
    let tensors = shapes.map(|(name, shape)| (name.to_owned(), Tensor::normal(rng, shape)));
    check(&attention, &tensors.into(), &[1, 4, 1, 128]);
}

/// How the pages of a pool lie between inaccessible ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// To the inaccessible page before each.
    Before,
    /// To the inaccessible page after each.
    After,
    /// Tokens lie outermost, and behind the last token of the sequence there is nothing.
    Last,
}

/// A pool whose pages lie each between inaccessible ones: `[page, 1, head, token, element]`.
struct Pool<T> {
    pages: Allocation,
    /// Of page 0.
    start: usize,
    shape: [usize; 5],
    strides: [isize; 5],
    table: Vec<u32>,
    len: usize,
    elements: std::marker::PhantomData<T>,
}

impl<T: Element> Pool<T> {
    /// Rows `[1, head, token, element]`, in pages of so many tokens, the last of the sequence first.
    fn new(rows: &TensorView<'_>, size: usize, of: impl Fn(f64) -> T, flush: Flush) -> Pool<T> {
        let [_, heads, len, dim] = *rows.shape() else { panic!("rows of heads") };
        let (page, count) = (region::page::size(), len.div_ceil(size));
        let (bytes, row) = (size * heads * dim * size_of::<T>(), heads * dim * size_of::<T>());
        let (room, last) = (bytes.next_multiple_of(page), len - (count - 1) * size);
        let start = page
            + match flush {
                Flush::Before => 0,
                Flush::After => room - bytes,
                Flush::Last => room - last * row,
            };
        let step = 2 * room + page;
        let pages = region::alloc(count * step + page, Protection::READ_WRITE).expect("pages");
        let by_token = flush == Flush::Last;
        let inner = if by_token { [row, dim, heads * dim, 1] } else { [row, size * dim, dim, 1] };
        let strides = [step / size_of::<T>(), inner[0], inner[1], inner[2], inner[3]].map(|stride| stride as isize);
        let table: Vec<u32> = (0..count as u32).rev().collect();
        let pool: Pool<T> = Pool {
            pages,
            start,
            shape: [count, 1, heads, size, dim],
            strides,
            table,
            len,
            elements: Default::default(),
        };
        for at in 0..heads * len * dim {
            let (head, token, element) = (at / dim / len, at / dim % len, at % dim);
            let x = of(rows.get(&[0, head, token, element]).expect("an element"));
            let index = [pool.table[token / size] as usize, 0, head, token % size, element];
            let place: isize = index.iter().zip(strides).map(|(index, stride)| *index as isize * stride).sum();
            // SAFETY: an element of a page, which is in this allocation and not yet protected.
            unsafe { pool.first().cast_mut().offset(place).write(x) };
        }
        for number in 0..count {
            // Page 0 is the last of the sequence.
            let end = start + if number == 0 && by_token { last * row } else { bytes };
            let (from, to) = (start / page * page, end.next_multiple_of(page));
            for (from, to) in [(0, from), (to, step)] {
                let from_here = pool.pages.as_ptr::<u8>().wrapping_add(number * step + from);
                if from < to {
                    // SAFETY: whole pages of this allocation, which nothing has a reference to.
                    unsafe { region::protect(from_here, to - from, Protection::NONE) }.expect("a guard");
                }
            }
        }
        pool
    }

    /// The address of element 0 of page 0.
    fn first(&self) -> *const T {
        self.pages.as_ptr::<u8>().wrapping_add(self.start).cast()
    }

    fn view(&self) -> PagedView<'_> {
        // SAFETY: pages are mapped as long as `self` lives and were zeroed, which is a value of these numbers, and nothing writes them. What
        // of a page the sequence does not have may be inaccessible: that it is not read is what is tested.
        let pool = unsafe { TensorView::from_raw(self.first(), &self.shape, &self.strides) }.expect("a view");
        PagedView::new(pool, &self.table, 0, 2, self.len).expect("a view in pages")
    }
}

/// Keys and values in pages, read where they lie or copied for each key tile, touch nothing but their tokens.
#[test]
fn kernels_stay_within_pages_of_a_pool() {
    let of = |d: i32, e: i32| Attention::heads(4).head_dim(d).value_dim(e).kv_heads(2).lse();
    let attentions = [
        ("1 element", of(1, 1).scheme(Causal)),
        ("15 elements on 17", of(15, 17).scheme(SlidingWindow::new(50))),
        ("17 elements on 15", of(17, 15).scheme(Alibi::new()).scheme(Causal)),
        ("130 elements", of(130, 130)),
        ("rotations", of(16, 16).scheme(Rope::new()).scheme(Causal)),
        ("documents", of(64, 8).documents(Batch::Each)),
        ("sums", Attention::heads(4).head_dim(24).weights_with(|_, score| score.sigmoid())),
    ];
    for (number, (name, attention)) in attentions.into_iter().enumerate() {
        for (which, target) in targets().iter().enumerate() {
            let elem = [Elem::F32, Elem::F16, Elem::Bf16][(number + which) % 3];
            let kernels = [Kernels::Prefill, Kernels::Decode][(number + which / 3) % 2];
            let graph = attention.clone().key_elem(elem).value_elem(elem).build().expect("a graph");
            let engine = Engine::builder().target(target.clone()).threads(1).kernels(kernels).guard_pages(Guard::After);
            let kernel = engine.build().expect("an engine").compile(&graph).expect("a kernel");
            for (size, queries, keys) in [(16, 1, 1), (16, 3, 37), (64, 1, 130), (64, 40, 131), (128, 2, 1151)] {
                let lengths = Lengths { batch: 1, queries, keys };
                let tensors = inputs(&mut Rng::new(keys as u64), kernel.interface(), lengths);
                let mut whole = outputs(kernel.interface(), lengths, |_| Layout::Rows);
                common::run(kernel.call(), &tensors, &mut whole).expect("runs");
                for flush in [Flush::Before, Flush::After, Flush::Last] {
                    let made = match elem {
                        Elem::F32 => in_pools(&kernel, &tensors, (size, flush), |x| x as f32),
                        Elem::F16 => in_pools(&kernel, &tensors, (size, flush), |x| f16::from_f32(x as f32)),
                        _ => in_pools(&kernel, &tensors, (size, flush), |x| bf16::from_f32(x as f32)),
                    };
                    let context = format!("{name}, {elem}, {target}, {}, {lengths:?}, pages of {size}", kernels.name());
                    assert!(made == common::calls::bits(&whole), "{context}, {flush:?}");
                }
            }
        }
    }
}

/// What a call makes of keys and values in guarded pools.
fn in_pools<T: Element>(
    kernel: &Kernel,
    tensors: &Tensors,
    (size, flush): (usize, Flush),
    of: impl Fn(f64) -> T,
) -> Vec<Vec<u32>> {
    let (k, v) = (&tensors["k"], &tensors["v"]);
    let lengths = Lengths { batch: 1, queries: tensors["q"].shape()[2], keys: k.shape()[2] };
    let [keys, values] = [k, v].map(|tensor| Pool::new(&tensor.view(), size, &of, flush));
    let mut made = outputs(kernel.interface(), lengths, |_| Layout::Rows);
    let mut call = kernel.call().input("k", keys.view()).input("v", values.view());
    for (name, tensor) in tensors.iter().filter(|(name, _)| !["k", "v"].contains(&name.as_str())) {
        call = call.input(name, tensor.view());
    }
    for (name, tensor) in &mut made {
        call = call.output(name, tensor.view_mut());
    }
    call.run().expect("runs");
    common::calls::bits(&made)
}

#[test]
fn buffers_are_flush_to_inaccessible_pages() {
    for (guard, len) in [(Guard::Before, 5), (Guard::After, 5), (Guard::After, 0), (Guard::Before, 3000)] {
        let guarded = Guarded::new(&vec![1.5f32; len], guard);
        let (between, slice) = (guarded.between(), guarded.slice().as_ptr_range());
        match guard {
            Guard::Before => assert_eq!(slice.start as usize, between.start),
            Guard::After => assert_eq!(slice.end as usize, between.end),
        }
        for outside in [between.start - 1, between.end] {
            let found = region::query(outside as *const u8).expect("mapped");
            assert_eq!(found.protection(), Protection::NONE);
        }
        assert!(guarded.slice().iter().all(|x| *x == 1.5));
    }
}
