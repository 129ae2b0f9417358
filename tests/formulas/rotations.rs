//! RoPE and 2D RoPE against rotations written out.

use std::f64::consts::PI;

use rhumb::ir::{Elem, Tensor};
use rhumb::plugins::schemes::rope2d::{Bands, Coordinates, Layout, Order};
use rhumb::plugins::{AxisLayout, MRope, Registry, Rope, Rope2d};
use rhumb::testing::{Point, SchemeTest, Shape, TestFailure};

/// Elements of pair `j` of `n`, from element `start`.
type Pair = fn(usize, usize, usize) -> (usize, usize);

const HALF: Pair = |start, n, j| (start + j, start + j + n);
const INTERLEAVED: Pair = |start, _, j| (start + 2 * j, start + 2 * j + 1);

/// The score with a block of `2n` elements rotated by `theta(j)` radians per position.
fn rope(p: &Point<'_>, pair: Pair, start: usize, n: usize, theta: impl Fn(usize) -> f64) -> f64 {
    p.rotated((0..n).map(|j| {
        let (a, b) = pair(start, n, j);
        (a, b, p.q_pos * theta(j), p.k_pos * theta(j))
    }))
}

fn power(base: f64, dim: usize, j: usize) -> f64 {
    base.powf(-2.0 * j as f64 / dim as f64)
}

#[test]
fn rope_over_the_head() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::new(&registry, Rope::new)
        .agrees_with(|p| rope(p, HALF, 0, p.q.len() / 2, |j| power(1e4, p.q.len(), j)))
        .shift_invariant()
        .run()?;
    SchemeTest::new(&registry, || Rope::new().interleaved().base(5e5))
        .agrees_with(|p| rope(p, INTERLEAVED, 0, p.q.len() / 2, |j| power(5e5, p.q.len(), j)))
        .shift_invariant()
        .run()
}

#[test]
fn rope_over_a_part() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    for (start, dim) in [(0, 2), (2, 4), (4, 4), (1, 6)] {
        SchemeTest::new(&registry, || Rope::new().rotary_dim(dim).start(start))
            .agrees_with(|p| rope(p, HALF, start as usize, dim as usize / 2, |j| power(1e4, dim as usize, j)))
            .shift_invariant()
            .run()?;
    }
    // From `start` to the end of the head.
    SchemeTest::new(&registry, || Rope::new().start(4).interleaved())
        .agrees_with(|p| rope(p, INTERLEAVED, 4, p.q.len() / 2 - 2, |j| power(1e4, p.q.len() - 4, j)))
        .run()
}

#[test]
fn rope_scalings() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    SchemeTest::new(&registry, || Rope::new().factor(4.0))
        .agrees_with(|p| rope(p, HALF, 0, p.q.len() / 2, |j| power(1e4, p.q.len(), j) / 4.0))
        .run()?;
    SchemeTest::new(&registry, || Rope::new().ntk(8.0))
        .agrees_with(|p| {
            let dim = p.q.len();
            let base = 1e4 * 8f64.powf(dim as f64 / (dim as f64 - 2.0));
            rope(p, HALF, 0, dim / 2, |j| power(base, dim, j))
        })
        .run()?;
    SchemeTest::new(&registry, || Rope::new().rotary_dim(6).frequencies([1.0, 0.0, -0.25]).factor(2.0))
        .agrees_with(|p| rope(p, HALF, 0, 3, |j| [0.5, 0.0, -0.125][j]))
        .shift_invariant()
        .run()
}

#[test]
fn rope_positions() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let theta = |p: &Point<'_>, j| power(1e4, p.q.len(), j);
    // An offset does not change scores, so it is held against a query-only rotation.
    SchemeTest::new(&registry, || Rope::new().query_only().offset(1000))
        .agrees_with(|p| {
            let n = p.q.len() / 2;
            p.rotated((0..n).map(|j| (j, j + n, (p.q_pos + 1000.0) * theta(p, j), 0.0)))
        })
        .run()?;
    SchemeTest::with_inputs(&registry, |cx| Rope::new().query_only().offset(cx.input("past", Elem::I32, [])))
        .input("past", |_| Tensor::i32([], [-7]))
        .agrees_with(|p| {
            let n = p.q.len() / 2;
            p.rotated((0..n).map(|j| (j, j + n, (p.q_pos - 7.0) * theta(p, j), 0.0)))
        })
        .run()?;
    // Clocks in place of token positions.
    let clock = |i: usize| (i * i) as f64 / 64.0 - 3.0;
    let times = |n: usize| Tensor::f32([n], (0..n).map(clock).collect::<Vec<_>>());
    SchemeTest::with_inputs(&registry, |cx| {
        let queries = cx.input("q_time", Elem::F32, [cx.query_axis()]);
        Rope::new().positions(queries, cx.input("k_time", Elem::F32, [cx.key_axis()]))
    })
    .input("q_time", move |shape| times(shape.queries))
    .input("k_time", move |shape| times(shape.keys))
    .agrees_with(|p| {
        let n = p.q.len() / 2;
        p.rotated((0..n).map(|j| (j, j + n, clock(p.query) * theta(p, j), clock(p.key) * theta(p, j))))
    })
    .run()
}

/// As many queries as keys, so that both count the grid from the first token; one shape with tokens missing at the end of the grid.
const IMAGES: [Shape; 4] = [
    Shape { heads: 2, kv_heads: 1, head_dim: 8, queries: 12, keys: 12 },
    Shape { heads: 3, kv_heads: 3, head_dim: 16, queries: 17, keys: 17 },
    Shape { heads: 1, kv_heads: 1, head_dim: 4, queries: 30, keys: 30 },
    Shape { heads: 1, kv_heads: 1, head_dim: 4, queries: 5, keys: 5 },
];

/// The score with the pairs of `pairs(n, axis, j)` rotated by coordinate `axis` times `theta(n, axis, j)`.
fn axial(
    p: &Point<'_>,
    coordinates: impl Fn(i64) -> [f64; 2],
    pairs: impl Fn(usize, usize, usize) -> (usize, usize),
    theta: impl Fn(usize, usize, usize) -> f64,
) -> f64 {
    let n = p.q.len() / 4;
    let (q, k) = (coordinates(p.q_index), coordinates(p.k_index));
    p.rotated((0..2).flat_map(|axis| (0..n).map(move |j| (axis, j))).map(|(axis, j)| {
        let (a, b) = pairs(n, axis, j);
        (a, b, q[axis] * theta(n, axis, j), k[axis] * theta(n, axis, j))
    }))
}

fn blocks(pair: Pair) -> impl Fn(usize, usize, usize) -> (usize, usize) {
    move |n, axis, j| pair(0, 2 * n, axis * n + j)
}

fn shared(base: f64) -> impl Fn(usize, usize, usize) -> f64 {
    move |n, _, j| base.powf(-(j as f64) / n as f64)
}

/// Row and column in a grid of 3 x 4 patches after `prefix` tokens; 0 outside.
fn grid(prefix: i64, of: impl Fn(i64, i64) -> [f64; 2]) -> impl Fn(i64) -> [f64; 2] {
    move |token| {
        let patch = token - prefix;
        if (0..12).contains(&patch) { of(patch / 4, patch % 4) } else { [0.0, 0.0] }
    }
}

fn indices(y: i64, x: i64) -> [f64; 2] {
    [y as f64, x as f64]
}

#[test]
fn rope2d_layouts() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let test = |make: fn() -> Rope2d| SchemeTest::new(&registry, make).shapes(&IMAGES);
    test(|| Rope2d::grid(3, 4)).agrees_with(|p| axial(p, grid(0, indices), blocks(HALF), shared(1e4))).run()?;
    test(|| Rope2d::grid(3, 4).prefix(2).interleaved().base(100.0))
        .agrees_with(|p| axial(p, grid(2, indices), blocks(INTERLEAVED), shared(100.0)))
        .run()?;
    test(|| Rope2d::grid(3, 4).order(Order::Xy))
        .agrees_with(|p| axial(p, grid(0, |y, x| indices(x, y)), blocks(HALF), shared(1e4)))
        .run()?;
    test(|| Rope2d::grid(3, 4).layout(Layout::Alternating))
        .agrees_with(|p| axial(p, grid(0, indices), |n, axis, j| HALF(0, 2 * n, 2 * j + axis), shared(1e4)))
        .run()?;
    test(|| Rope2d::grid(3, 4).layout(Layout::Split))
        .agrees_with(|p| axial(p, grid(0, indices), |n, axis, j| HALF(2 * n * axis, n, j), shared(1e4)))
        .run()?;
    test(|| Rope2d::grid(3, 4).bands(Bands::Alternating))
        .agrees_with(|p| {
            let theta = |n: usize, axis: usize, j: usize| 1e4f64.powf(-((2 * j + axis) as f64) / (2 * n) as f64);
            axial(p, grid(0, indices), blocks(HALF), theta)
        })
        .run()
}

#[test]
fn rope2d_coordinates() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let test = |make: fn() -> Rope2d| SchemeTest::new(&registry, make).shapes(&IMAGES);
    test(|| Rope2d::grid(3, 4).index_offset(1.0))
        .agrees_with(|p| axial(p, grid(0, |y, x| indices(y + 1, x + 1)), blocks(HALF), shared(1e4)))
        .run()?;
    test(|| Rope2d::grid(3, 4).reference(16.0, 8.0))
        .agrees_with(|p| {
            let of = |y, x| [y as f64 / 3.0 * 16.0, x as f64 / 4.0 * 8.0];
            axial(p, grid(0, of), blocks(HALF), shared(1e4))
        })
        .run()?;
    test(|| Rope2d::grid(3, 4).coordinates(Coordinates::Centres).scale(2.0 * PI).prefix(1))
        .agrees_with(|p| {
            let centre = |i: i64, n: f64| 2.0 * PI * (2.0 * (i as f64 + 0.5) / n - 1.0);
            axial(p, grid(1, |y, x| [centre(y, 3.0), centre(x, 4.0)]), blocks(HALF), shared(1e4))
        })
        .run()?;
    test(|| Rope2d::grid(3, 4).coordinates(Coordinates::Corners))
        .agrees_with(|p| {
            let corner = |i: i64, n: f64| 2.0 * i as f64 / (n - 1.0) - 1.0;
            axial(p, grid(0, |y, x| [corner(y, 3.0), corner(x, 4.0)]), blocks(HALF), shared(1e4))
        })
        .run()?;
    // A grid of one row: the only one is the first.
    test(|| Rope2d::grid(1, 12).coordinates(Coordinates::Corners))
        .agrees_with(|p| {
            let of = |t: i64| if t < 12 { [-1.0, 2.0 * t as f64 / 11.0 - 1.0] } else { [0.0, 0.0] };
            axial(p, of, blocks(HALF), shared(1e4))
        })
        .run()?;
    // Two frames of 2 x 3 patches, then tokens of no place.
    test(|| Rope2d::grid(2, 3).repeat(2).prefix(1))
        .agrees_with(|p| {
            let of = |t: i64| {
                let patch = t - 1;
                if (0..12).contains(&patch) { indices(patch % 6 / 3, patch % 3) } else { [0.0, 0.0] }
            };
            axial(p, of, blocks(HALF), shared(1e4))
        })
        .run()
}

#[test]
fn rope2d_of_values() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    // A grid that each call tells.
    SchemeTest::with_inputs(&registry, |cx| {
        Rope2d::grid(cx.input("rows", Elem::I32, []), cx.input("columns", Elem::I32, [])).repeat(2)
    })
    .shapes(&IMAGES)
    .input("rows", |_| Tensor::i32([], [2]))
    .input("columns", |_| Tensor::i32([], [3]))
    .agrees_with(|p| {
        let of = |t: i64| if t < 12 { indices(t % 6 / 3, t % 3) } else { [0.0, 0.0] };
        axial(p, of, blocks(HALF), shared(1e4))
    })
    .run()?;
    // Coordinates outright, of another kind on each side.
    let place = |t: i64| [(t * t % 7) as f64 / 4.0 - 0.5, (t % 5) as f64];
    let column = move |n: usize, axis: usize| (0..n as i64).map(move |t| place(t)[axis]);
    let reals = move |n: usize, axis: usize| Tensor::f32([n], column(n, axis).collect::<Vec<_>>());
    SchemeTest::with_inputs(&registry, |cx| {
        let (q, k) = (cx.q, cx.k);
        let (q_y, q_x) = (cx.input("q_y", Elem::F32, [q]), cx.input("q_x", Elem::I32, [q]));
        Rope2d::at(q_y, q_x, cx.input("k_y", Elem::F32, [k]), cx.input("k_x", Elem::F32, [k]))
    })
    .input("q_y", move |shape| reals(shape.queries, 0))
    .input("q_x", move |shape| Tensor::i32([shape.queries], column(shape.queries, 1).map(|x| x as i32)))
    .input("k_y", move |shape| reals(shape.keys, 0))
    .input("k_x", move |shape| reals(shape.keys, 1))
    .agrees_with(|p| {
        let n = p.q.len() / 4;
        let (q, k) = (place(p.query as i64), place(p.key as i64));
        p.rotated((0..2 * n).map(|j| {
            let (axis, theta) = (j / n, 1e4f64.powf(-((j % n) as f64) / n as f64));
            (j, j + 2 * n, q[axis] * theta, k[axis] * theta)
        }))
    })
    .run()
}

#[test]
fn rope2d_of_learned_frequencies() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let theta = |head: u32, j: usize| (f64::from(head) + 1.0) / (j as f64 + 2.0);
    let tensor = |shape: &Shape, sign: f64| {
        let pairs = shape.head_dim as usize / 2;
        let data: Vec<f64> = (0..shape.heads).flat_map(|h| (0..pairs).map(move |j| sign * theta(h, j))).collect();
        Tensor::f32([shape.heads as usize, pairs], data)
    };
    SchemeTest::with_inputs(&registry, |cx| {
        let pairs = cx.builder().axis_of("pairs", cx.head_dim().expect("the head has a size") / 2);
        let input = |name| cx.input(name, Elem::F32, [cx.h, pairs]);
        Rope2d::grid(3, 4).interleaved().learned(input("fy"), input("fx")).scale(0.5)
    })
    .shapes(&IMAGES)
    .input("fy", move |shape| tensor(shape, 1.0))
    .input("fx", move |shape| tensor(shape, -3.0))
    .agrees_with(|p| {
        let grid = grid(0, indices);
        let angle = |[y, x]: [f64; 2], j| 0.5 * (y * theta(p.head, j) - 3.0 * x * theta(p.head, j));
        let (q, k) = (grid(p.q_index), grid(p.k_index));
        p.rotated((0..p.q.len() / 2).map(|j| (2 * j, 2 * j + 1, angle(q, j), angle(k, j))))
    })
    .run()
}

#[test]
fn rope2d_of_frequencies_of_ones_own() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    const THETA: [f64; 2] = [0.75, 0.3];
    SchemeTest::new(&registry, || Rope2d::grid(3, 4).frequencies(THETA).scale(3.0))
        .shapes(&[Shape { heads: 2, kv_heads: 1, head_dim: 8, queries: 5, keys: 13 }])
        .agrees_with(|p| {
            let (q, k) = (grid(0, indices)(p.q_index), grid(0, indices)(p.k_index));
            p.rotated((0..4).map(|j| (j, j + 4, 3.0 * q[j / 2] * THETA[j % 2], 3.0 * k[j / 2] * THETA[j % 2])))
        })
        .run()
}

/// Time, height and width of a token: a few of text, then an image.
fn place(token: usize) -> [i32; 3] {
    let token = token as i32;
    if token < 3 { [token; 3] } else { [3, 3 + (token - 3) / 2, 3 + (token - 3) % 2] }
}

#[test]
fn mrope_by_sections() -> Result<(), TestFailure> {
    let registry = Registry::standard();
    let positions = |count: usize| {
        let data: Vec<i32> = (0..3).flat_map(|axis| (0..count).map(move |token| place(token)[axis])).collect();
        Tensor::i32([3, count], data)
    };
    let layouts: [(AxisLayout, [u32; 3], [usize; 4]); 4] = [
        (AxisLayout::Blocks, [1, 2, 1], [0, 1, 1, 2]),
        (AxisLayout::Blocks, [0, 0, 4], [2, 2, 2, 2]),
        (AxisLayout::Interleaved, [2, 1, 1], [0, 1, 2, 0]),
        (AxisLayout::FastSpace, [1, 1, 2], [1, 2, 0, 0]),
    ];
    for (layout, sections, axes) in layouts {
        SchemeTest::with_inputs(&registry, |cx| {
            let axis = cx.builder().axis_of("axis", 3);
            let (q, k) = (cx.input("at", Elem::I32, [axis, cx.q]), cx.input("keys_at", Elem::I32, [axis, cx.k]));
            MRope::new(sections, q, k).layout(layout).rotary_dim(8).attention_factor(1.0)
        })
        .input("at", move |shape| positions(shape.queries))
        .input("keys_at", move |shape| positions(shape.keys))
        .agrees_with(|p| {
            let (q, k) = (place(p.query), place(p.key));
            p.rotated((0..4).map(|j| {
                let turned = |place: [i32; 3]| f64::from(place[axes[j]]) * power(1e4, 8, j);
                (j, j + 4, turned(q), turned(k))
            }))
        })
        .run()?;
    }
    Ok(())
}
