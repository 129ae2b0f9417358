//! Small kernels as CLIF text, for snapshots and measurements.

use std::fmt::Write;

/// `out[r][c] += sum over t of b[t][r] * a[t][c]`, all `rows x cols` vectors of accumulators in registers. Parameters: out, a, b, steps.
pub(crate) fn microkernel(rows: usize, cols: usize, lanes: usize) -> String {
    let ty = format!("f32x{lanes}");
    let bytes = 4 * lanes;
    let mut s = String::from(
        "function %microkernel(i64, i64, i64, i64) system_v {\nblock0(v0: i64, v1: i64, v2: i64, v3: i64):\n",
    );
    let tiles = rows * cols;
    for i in 0..tiles {
        writeln!(s, "    v{} = load.{ty} notrap v0+{}", 100 + i, i * bytes).unwrap();
    }
    let list = |first: usize| (0..tiles).map(|i| format!("v{}", first + i)).collect::<Vec<_>>().join(", ");
    let params = (0..tiles).map(|i| format!("v{}: {ty}", 200 + i)).collect::<Vec<_>>().join(", ");
    writeln!(s, "    jump block1(v1, v2, v3, {})", list(100)).unwrap();
    writeln!(s, "block1(v4: i64, v5: i64, v6: i64, {params}):").unwrap();
    for c in 0..cols {
        writeln!(s, "    v{} = load.{ty} notrap v4+{}", 400 + c, c * bytes).unwrap();
    }
    for r in 0..rows {
        writeln!(s, "    v{} = load.f32 notrap v5+{}", 500 + r, 4 * r).unwrap();
        writeln!(s, "    v{} = splat.{ty} v{}", 600 + r, 500 + r).unwrap();
        for c in 0..cols {
            let i = r * cols + c;
            writeln!(s, "    v{} = fma v{}, v{}, v{}", 300 + i, 600 + r, 400 + c, 200 + i).unwrap();
        }
    }
    writeln!(s, "    v7 = iconst.i64 {}\n    v8 = iadd v4, v7", cols * bytes).unwrap();
    writeln!(s, "    v9 = iconst.i64 {}\n    v10 = iadd v5, v9", 4 * rows).unwrap();
    writeln!(s, "    v11 = iconst.i64 1\n    v12 = isub v6, v11").unwrap();
    writeln!(s, "    brif v12, block1(v8, v10, v12, {}), block2", list(300)).unwrap();
    s.push_str("block2:\n");
    for i in 0..tiles {
        writeln!(s, "    store notrap v{}, v0+{}", 300 + i, i * bytes).unwrap();
    }
    s.push_str("    return\n}\n");
    s
}

/// `out[i] = exp2(x[i])` over blocks of vectors: the integer part goes into the exponent, the rest through a polynomial. Parameters: out,
/// x, vectors.
pub(crate) fn exp2(lanes: usize) -> String {
    let (f, i) = (format!("f32x{lanes}"), format!("i32x{lanes}"));
    let coefficients = [
        "0x1.43d338p-13",
        "0x1.5efb9cp-10",
        "0x1.3b2c9cp-7",
        "0x1.c6af84p-5",
        "0x1.ebfbe0p-3",
        "0x1.62e430p-1",
        "0x1.0p0",
    ];
    let mut s = format!(
        "function %exp2(i64, i64, i64) system_v {{
block0(v0: i64, v1: i64, v2: i64):
    jump block1(v0, v1, v2)
block1(v3: i64, v4: i64, v5: i64):
    v6 = load.{f} notrap v4
    v7 = f32const -0x1.f8p6
    v8 = splat.{f} v7
    v9 = fcmp lt v6, v8
    v10 = bitcast.{f} little v9
    v11 = bitselect v10, v8, v6
    v12 = nearest v11
    v13 = fsub v11, v12
"
    );
    let mut previous = 20;
    for (k, c) in coefficients.iter().enumerate() {
        writeln!(s, "    v{} = f32const {c}\n    v{} = splat.{f} v{}", 40 + k, 60 + k, 40 + k).unwrap();
        if k == 0 {
            previous = 60;
        } else {
            writeln!(s, "    v{} = fma v{previous}, v13, v{}", 80 + k, 60 + k).unwrap();
            previous = 80 + k;
        }
    }
    write!(
        s,
        "    v14 = fcvt_to_sint_sat.{i} v12
    v15 = iconst.i32 23
    v16 = ishl v14, v15
    v17 = bitcast.{i} little v{previous}
    v18 = iadd v17, v16
    store notrap v18, v3
    v19 = iconst.i64 {bytes}
    v20 = iadd v3, v19
    v21 = iadd v4, v19
    v22 = iconst.i64 1
    v23 = isub v5, v22
    brif v23, block1(v20, v21, v23), block2
block2:
    return
}}
",
        bytes = 4 * lanes
    )
    .unwrap();
    s
}

/// `out[j][i] = a[i][j]` of 4 by 4 floats, the rows of `a` a number of bytes apart. Parameters: out, a, bytes.
pub(crate) fn transpose() -> String {
    let mut s = String::from(
        "function %transpose(i64, i64, i64) system_v {\nblock0(v0: i64, v1: i64, v2: i64):\n    v11 = iadd v1, v2\n    v12 = iadd v11, v2\n    v13 = iadd v12, v2\n",
    );
    for (row, address) in [1, 11, 12, 13].into_iter().enumerate() {
        writeln!(s, "    v{} = load.f32x4 notrap v{address}", 20 + row).unwrap();
        writeln!(s, "    v{} = bitcast.i8x16 little v{}", 30 + row, 20 + row).unwrap();
    }
    let mut shuffle = |to: usize, a: usize, b: usize, lanes: [usize; 4]| {
        let bytes = lanes.iter().flat_map(|lane| (0..4).map(move |byte| (4 * lane + byte).to_string()));
        writeln!(s, "    v{to} = shuffle v{a}, v{b}, [{}]", bytes.collect::<Vec<_>>().join(" ")).unwrap();
    };
    for pair in 0..2 {
        shuffle(40 + pair, 30 + 2 * pair, 31 + 2 * pair, [0, 4, 1, 5]);
        shuffle(42 + pair, 30 + 2 * pair, 31 + 2 * pair, [2, 6, 3, 7]);
    }
    for half in 0..2 {
        shuffle(50 + 2 * half, 40 + 2 * half, 41 + 2 * half, [0, 1, 4, 5]);
        shuffle(51 + 2 * half, 40 + 2 * half, 41 + 2 * half, [2, 3, 6, 7]);
    }
    for row in 0..4 {
        writeln!(s, "    v{} = bitcast.f32x4 little v{}", 60 + row, 50 + row).unwrap();
        writeln!(s, "    store notrap v{}, v0+{}", 60 + row, 16 * row).unwrap();
    }
    s.push_str("    return\n}\n");
    s
}
