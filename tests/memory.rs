//! Memory that can't be had is an error and no abort, and what calls keep can be freed.
#![allow(unsafe_code, reason = "an allocator that counts, and refuses what passes a limit")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use common::targets;
use rhumb::ir::{GraphBuilder, InterpError};
use rhumb::prelude::*;
use rhumb::runtime::{CallError, Kernel, Reference};

/// The system's memory, as far as the limit of the thread.
struct Limited;

thread_local! {
    /// The most bytes of one allocation.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Bytes that are allocated and not yet freed.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

fn live(change: isize) {
    let _ = LIVE.try_with(|live| live.set(live.get() + change));
}

fn refused(layout: Layout) -> bool {
    LIMIT.try_with(|limit| layout.size() > limit.get()).unwrap_or(false)
}

// SAFETY: what is not refused is the system's, called with the same arguments; null is a refusal.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refused(layout) {
            return std::ptr::null_mut();
        }
        live(layout.size() as isize);
        // SAFETY: the caller's word is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refused(layout) {
            return std::ptr::null_mut();
        }
        live(layout.size() as isize);
        // SAFETY: the caller's word is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        live(-(layout.size() as isize));
        // SAFETY: the caller's word is passed on; the memory is the system's.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Runs with a limit on each allocation. What the work makes must be small: an allocation that can't fail ends the process.
fn limited<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    LIMIT.set(bytes);
    let made = work();
    LIMIT.set(usize::MAX);
    made
}

fn engine() -> Engine {
    Engine::builder().threads(1).build().expect("an engine")
}

/// What a call is of.
#[derive(Clone, Copy)]
enum Of<'o> {
    Kernel(&'o Kernel),
    Reference(&'o Reference),
}

/// Runs a call on inputs of ones.
fn call(
    of: Of<'_>,
    inputs: &[(&'static str, &[usize])],
    (out_shape, out): (&[usize], &mut [f32]),
    limit: usize,
) -> Result<(), CallError> {
    let data: Vec<Vec<f32>> = inputs.iter().map(|(_, shape)| vec![1.0; shape.iter().product()]).collect();
    let mut call = match of {
        Of::Kernel(kernel) => kernel.call(),
        Of::Reference(reference) => reference.call(),
    };
    for ((name, shape), data) in inputs.iter().zip(&data) {
        call = call.input(name, TensorView::from_slice(data, shape).expect("a view"));
    }
    let call = call.output("out", TensorViewMut::from_slice(out, out_shape).expect("a view"));
    limited(limit, || call.run())
}

#[test]
fn the_reference_refuses_what_it_cannot_hold() {
    let graph = Attention::heads(1).head_dim(4).build().expect("a graph");
    let reference = engine().reference(&graph).expect("a reference");
    // 2^30 keys that are one.
    let (x, mut out) = ([1.0f32; 4], [7.0f32; 4]);
    let keys = || TensorView::with_strides(&x, &[1, 1, 1 << 30, 4], &[0, 0, 0, 1]).expect("a view");
    let result = reference
        .call()
        .input("q", TensorView::from_slice(&x, &[1, 1, 1, 4]).expect("a view"))
        .input("k", keys())
        .input("v", keys())
        .output("out", TensorViewMut::from_slice(&mut out, &[1, 1, 1, 4]).expect("a view"))
        .run();
    let Err(CallError::Reference(error)) = result else { panic!("{result:?}") };
    assert_eq!(
        error.to_string(),
        "`%k = input \"k\" : f32[b, h, k, d]` would have shape [1, 1, 1073741824, 4], more than the 134217728 elements the interpreter allows"
    );

    // An input that memory does not hold twice, and scores that it does not hold once.
    for (queries, keys, line) in [(1, 1 << 18, "%k = input "), (1000, 1000, " = dot ")] {
        let shapes: [(&str, &[usize]); 3] =
            [("q", &[1, 1, queries, 4]), ("k", &[1, 1, keys, 4]), ("v", &[1, 1, keys, 4])];
        let mut out = vec![7.0; 4 * queries];
        let result = call(Of::Reference(&reference), &shapes, (&[1, 1, queries, 4], &mut out), 4 << 20);
        let Err(CallError::Reference(error)) = result else { panic!("{result:?}") };
        let InterpError::OutOfMemory { line: of, bytes } = &*error else { panic!("{error}") };
        assert!(of.contains(line) && [8 << 20, 8_000_000].contains(bytes), "{error}");
        assert!(out.iter().all(|x| *x == 7.0));
    }
}

/// Keys with a term and a mask of each batch.
fn batches() -> Verified {
    let g = GraphBuilder::new("batches");
    let (b, q, k) = (g.axis("b"), g.axis("q"), g.axis("k"));
    let (d, e) = (g.axis_of("d", 1), g.axis_of("e", 1));
    let queries = g.input("q", Elem::F32, [q, d]);
    let (keys, values) = (g.input("k", Elem::F32, [k, d]), g.input("v", Elem::F32, [k, e]));
    let bias = g.input("bias", Elem::F32, [b, k]);
    let score = queries.dot(keys, d).mask(bias.gt(0.0));
    g.output("out", score.softmax(k).dot(values, k), [b, q, e]);
    g.finish().expect("a graph")
}

#[test]
fn kernels_refuse_what_they_cannot_hold() {
    let graph = batches();
    for target in targets() {
        let kernel = common::engine(&target, 1).compile(&graph).expect("a kernel");
        // A table, and the trees over it: these take more for each row of a few keys.
        for (batches, keys, limit, tables) in [(1 << 8, 1 << 11, 1 << 20, true), (1 << 16, 1, 1 << 20, false)] {
            let shapes: [(&str, &[usize]); 4] =
                [("q", &[1, 1]), ("k", &[keys, 1]), ("v", &[keys, 1]), ("bias", &[batches, keys])];
            let mut out = vec![7.0; batches];
            let refused =
                call(Of::Kernel(&kernel), &shapes, (&[batches, 1, 1], &mut out), limit).expect_err("too large");
            match refused {
                CallError::Tables { bytes, ref shape, .. } => {
                    assert!(tables && bytes > 1 << 21 && **shape == [batches, keys]);
                }
                CallError::OutOfMemory(error) => assert!(!tables && error.bytes >= batches * 16, "{error}"),
                _ => panic!("{refused:?}"),
            }
            assert!(out.iter().all(|x| *x == 7.0), "nothing was written");
            call(Of::Kernel(&kernel), &shapes, (&[batches, 1, 1], &mut out), usize::MAX).expect("runs");
            assert!(out.iter().all(|x| *x == 1.0));
            kernel.trim();
        }
    }
}

/// What a task lists grows with the keys: it is refused before any task runs, on the thread of the caller.
#[test]
fn lists_of_tasks_are_refused_before_a_task_runs() {
    const QUERIES: usize = 3200;
    const KEYS: usize = 1 << 14;
    // Every other 16 keys are a run of their own.
    let graph = Attention::heads(1).head_dim(1).mask_with(|cx| (cx.k_index() / 16 % 2).eq(0)).build().expect("a graph");
    for (target, threads) in targets().iter().flat_map(|target| [(target, 1), (target, 2)]) {
        let kernel = common::engine(target, threads).compile(&graph).expect("a kernel");
        let shape = [1, 1, QUERIES, 1];
        let shapes: [(&str, &[usize]); 3] = [("q", &shape), ("k", &[1, 1, KEYS, 1]), ("v", &[1, 1, KEYS, 1])];
        let mut out = vec![7.0; QUERIES];
        let refused = call(Of::Kernel(&kernel), &shapes, (&shape, &mut out), 1 << 18).expect_err("too large");
        let CallError::OutOfMemory(error) = refused else { panic!("{target}: {refused:?}") };
        assert!(error.bytes > 1 << 18, "{target}: {error}");
        assert!(out.iter().all(|x| *x == 7.0), "{target}: nothing was written");
        call(Of::Kernel(&kernel), &shapes, (&shape, &mut out), usize::MAX).expect("runs");
        assert!(out.iter().all(|x| *x == 1.0), "{target}");
    }
}

/// Runs a causal ALiBi, long enough that keys are left out of it.
fn run(kernel: &Kernel) {
    const LEN: usize = 300;
    let x = vec![0.5f32; LEN * 8];
    let mut out = vec![0.0f32; LEN * 8];
    let view = || TensorView::from_slice(&x, &[1, 1, LEN, 8]).expect("a view");
    let call = kernel.call().input("q", view()).input("k", view()).input("v", view());
    call.output("out", TensorViewMut::from_slice(&mut out, &[1, 1, LEN, 8]).expect("a view")).run().expect("runs");
}

#[test]
fn trim_frees_all_that_calls_keep() {
    let graph =
        Attention::heads(1).head_dim(8).scheme(Alibi::new().slopes([2.0])).scheme(Causal).build().expect("a graph");
    let kernel = engine().compile(&graph).expect("a kernel");
    let before = LIVE.get();
    for _ in 0..2 {
        run(&kernel);
        let kept = LIVE.get() - before;
        assert!(kept > 1000, "{kept} bytes are kept");
        run(&kernel);
        assert_eq!(LIVE.get() - before, kept);
        kernel.trim();
        assert_eq!(LIVE.get(), before, "some of {kept} bytes are left");
    }
}

/// The memory of a thread grows with the head sizes: very long ones work, longer ones are refused at once.
#[test]
fn long_heads_work_or_are_refused_at_once() {
    let attention = |d: u32| Attention::heads(1).head_dim(d).scheme(Causal).build().expect("a graph");
    let start = Instant::now();
    let error = engine().compile(&attention(1_000_000)).expect_err("too long").to_string();
    assert!(error.starts_with("axis `e` is 1000000 long: a thread would need "), "{error}");
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());

    const DIM: usize = 65_536;
    let graph = attention(DIM as u32);
    let x: Vec<f32> = (0..3 * DIM).map(|i| ((i * 37) % 101) as f32 / 101.0 - 0.5).collect();
    let view = || TensorView::from_slice(&x, &[1, 1, 3, DIM]).expect("a view");
    let mut outs = [vec![0.0f32; 3 * DIM], vec![0.0f32; 3 * DIM]];
    let start = Instant::now();
    let (kernel, reference) =
        (engine().compile(&graph).expect("a kernel"), engine().reference(&graph).expect("a reference"));
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    for (call, out) in [kernel.call(), reference.call()].into_iter().zip(&mut outs) {
        let call = call.input("q", view()).input("k", view()).input("v", view());
        call.output("out", TensorViewMut::from_slice(out, &[1, 1, 3, DIM]).expect("a view")).run().expect("runs");
    }
    let off = common::difference(&outs[0], &outs[1], common::absolute);
    assert!(off < 1e-4, "{off}");
}
