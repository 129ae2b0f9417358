use insta::assert_snapshot;

use super::*;

/// All elements in row-major order of the view.
fn elements(view: TensorView<'_>) -> Vec<f64> {
    view.elements().collect()
}

#[track_caller]
fn error<T: std::fmt::Debug>(result: Result<T, ViewError>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn contiguous_views() {
    let data: Vec<i32> = (0..30).collect();
    let view = TensorView::from_slice(&data, &[3, 5, 2]).expect("a view");
    assert_eq!((view.strides(), view.len(), view.elem()), (&[10, 2, 1][..], 30, Elem::I32));
    assert!(view.is_contiguous());
    assert_eq!(elements(view), (0..30).map(f64::from).collect::<Vec<_>>());
    assert_eq!((view.get(&[2, 4, 1]), view.get(&[1, 0, 1])), (Some(29.0), Some(11.0)));
    assert_eq!(view.get(&[3, 0, 0]), None);
    assert_eq!(view.get(&[0, 0]), None);
}

#[test]
fn scalars_and_truth_values() {
    assert_eq!(TensorView::from_slice(&[2.5f32], &[]).expect("a view").get(&[]), Some(2.5));
    assert_eq!(elements(TensorView::from_slice(&[false, true], &[2]).expect("a view")), [0.0, 1.0]);
    assert_eq!(
        elements(TensorView::from_slice(&[0u8, 7], &[2]).expect("a view")),
        [0.0, 1.0],
        "any byte but 0 is true"
    );
}

#[test]
fn strides_may_repeat_and_walk_backwards() {
    let data: Vec<i32> = (0..6).collect();
    let repeated = TensorView::with_strides(&data, &[4, 3], &[0, 1]).expect("a view");
    assert_eq!(elements(repeated)[3..9], [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    let reversed = TensorView::with_offset(&data, 5, &[2, 3], &[-3, -1]).expect("a view");
    assert_eq!(elements(reversed), [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
    assert!(!reversed.is_contiguous());
    assert_eq!(elements(reversed.narrow(0, 1, 1).expect("a window")), [2.0, 1.0, 0.0]);
    assert_eq!(
        elements(reversed.narrow(1, 1, 2).expect("a window").permute(&[1, 0]).expect("an order")),
        [4.0, 1.0, 3.0, 0.0]
    );
}

#[test]
fn packed_tensors_come_apart() {
    // [batch, token, slot, dim]
    let data: Vec<i32> = (0..2 * 5 * 3 * 4).collect();
    let packed = TensorView::from_slice(&data, &[2, 5, 3, 4]).expect("a view");
    let keys = packed.select(2, 1).expect("a slot");
    assert_eq!((keys.shape(), keys.strides()), (&[2, 5, 4][..], &[60, 12, 1][..]));
    assert_eq!(keys.get(&[1, 3, 2]), Some(f64::from(60 + 36 + 4 + 2)));
    let batch = keys.select(0, 1).expect("a sequence").insert_dim(0).expect("a batch of one");
    assert_eq!((batch.shape(), batch.get(&[0, 3, 2])), (&[1, 5, 4][..], keys.get(&[1, 3, 2])));
    assert_eq!(batch.insert_dim(3).expect("a view").shape(), [1, 5, 4, 1]);
}

#[test]
fn views_without_elements() {
    let view = TensorView::from_slice::<f32>(&[], &[2, 0, 7]).expect("a view");
    assert!(view.is_empty() && view.is_contiguous());
    let long = TensorView::from_slice::<f32>(&[], &[0, 1 << 30, 5]).expect("a view");
    assert!(long.narrow(1, 1 << 30, 0).expect("a window").is_empty());
    assert!(long.select(1, (1 << 30) - 1).expect("a view").is_empty());
    let strided = TensorView::with_offset::<f32>(&[], 99, &[0, 4], &[isize::MIN, 7]).expect("nothing to reach");
    assert!(strided.is_empty());
    let data = [0.0f32; 6];
    let end = TensorView::from_slice(&data, &[2, 3]).expect("a view").narrow(0, 2, 0).expect("an empty window");
    assert_eq!(end.as_ptr(), data.as_ptr().cast());
    assert!(TensorViewMut::with_strides::<f32>(&mut [], &[0, 3], &[0, 0]).expect("nothing repeats").is_empty());
}

#[test]
fn outputs_are_written_where_their_strides_say() {
    let mut data = [0.0f32; 12];
    let mut view = TensorViewMut::from_slice(&mut data, &[3, 4]).expect("a view");
    let mut transposed = view.reborrow().permute(&[1, 0]).expect("an order").narrow(0, 1, 2).expect("a window");
    assert!(transposed.set(&[1, 2], 7.5) && !transposed.set(&[2, 0], 1.0));
    assert_eq!(view.get(&[2, 2]), Some(7.5));
    let (mut left, mut right) = view.split_at(1, 3).expect("two parts");
    assert!(left.set(&[0, 2], 1.0) && right.set(&[0, 0], 2.0) && !left.set(&[0, 3], 9.0));
    assert_eq!(data, [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.5, 0.0]);
    let view = TensorViewMut::with_offset(&mut data, 1, &[2, 3], &[1, 4]);
    view.expect("a view").fill_from(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(data, [0.0, 1.0, 4.0, 2.0, 0.0, 2.0, 5.0, 0.0, 0.0, 3.0, 6.0, 0.0]);

    let (mut ints, mut truths) = ([0i32; 3], [0u8; 2]);
    let mut view = TensorViewMut::from_slice(&mut ints, &[3]).expect("a view");
    assert!(view.set(&[0], -2.9) && view.set(&[1], 1e12) && view.set(&[2], f64::NAN));
    let mut view = TensorViewMut::from_slice(&mut truths, &[2]).expect("a view");
    assert!(view.set(&[1], -3.0));
    assert_eq!((ints, truths), ([-2, i32::MAX, 0], [0, 1]));
}

#[test]
fn views_cross_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<TensorView<'_>>();
    shared::<TensorViewMut<'_>>();
}

#[test]
fn refused_views_say_why() {
    let data = [0.0f32; 24];
    let mut out = [0.0f32; 24];
    let view = TensorView::from_slice(&data, &[2, 3, 4]).expect("a view");
    let shown = [
        error(TensorView::from_slice(&data, &[2, 3, 5])),
        error(TensorView::from_slice(&data, &[])),
        error(TensorView::from_slice(&data, &[usize::MAX, 2])),
        error(TensorView::from_slice(&data, &[1 << 40, 1 << 40])),
        error(TensorView::from_slice::<f32>(&[], &[1 << 40, 0, 1 << 40])),
        error(TensorView::with_strides(&data, &[1 << 40, 1 << 40], &[0, 0])),
        error(TensorView::from_slice(&data, &[1; 9])),
        error(TensorView::with_strides(&data, &[2, 12], &[12])),
        error(TensorView::with_strides(&data, &[2, 13], &[12, 1])),
        error(TensorView::with_strides(&data, &[2, 3], &[3, -1])),
        error(TensorView::with_strides(&data, &[3], &[isize::MAX])),
        error(TensorView::with_strides(&data, &[2], &[isize::MIN])),
        error(TensorView::with_offset(&data, usize::MAX, &[1], &[1])),
        error(TensorView::with_offset::<f32>(&[], 0, &[], &[])),
        error(TensorViewMut::with_strides(&mut out, &[2, 3], &[0, 1])),
        error(TensorViewMut::with_strides(&mut out, &[3, 3], &[2, 1])),
        error(view.permute(&[0, 1])),
        error(view.permute(&[0, 1, 1])),
        error(view.permute(&[0, 1, 3])),
        error(view.narrow(1, 2, 2)),
        error(view.narrow(1, usize::MAX, 2)),
        error(view.select(3, 0)),
        error(view.select(0, 2)),
        error(view.insert_dim(4)),
        error(TensorView::from_slice(&data[..1], &[1; 8]).expect("a view").insert_dim(0)),
        error(TensorViewMut::from_slice(&mut out, &[4, 6]).expect("a view").split_at(1, 7)),
        error(TensorViewMut::from_slice(&mut out, &[4, 6]).expect("a view").split_at(2, 0)),
    ]
    .join("\n");
    assert_snapshot!(shown);
}
