use insta::assert_snapshot;
use rhumb_random::Rng;

use super::*;

/// A pool of `i32` whose elements are their places in memory, in a random layout: dimensions in any order in memory, with gaps, some
/// backwards.
struct Pool {
    data: Vec<i32>,
    shape: Vec<usize>,
    strides: Vec<isize>,
    offset: usize,
}

impl Pool {
    fn random(rng: &mut Rng, shape: &[usize]) -> Pool {
        let mut strides = vec![0isize; shape.len()];
        let (mut step, mut offset) = (1 + rng.below(3), rng.below(5));
        for dim in rng.shuffled((0..shape.len()).collect()) {
            let backwards = rng.one_in(3);
            strides[dim] = if backwards { -(step as isize) } else { step as isize };
            offset += if backwards { step * (shape[dim] - 1) } else { 0 };
            step = step * shape[dim] + rng.below(4);
        }
        let len = offset + step + rng.below(3);
        Pool { data: (0..len as i32).collect(), shape: shape.to_vec(), strides, offset }
    }

    fn view(&self) -> TensorView<'_> {
        TensorView::with_offset(&self.data, self.offset, &self.shape, &self.strides).expect("a pool")
    }
}

/// All indices of a shape, in row-major order.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![Vec::new()], |outer, size| {
        let deeper = |index: &Vec<usize>| -> Vec<Vec<usize>> {
            (0..*size).map(|i| index.iter().copied().chain([i]).collect()).collect()
        };
        outer.iter().flat_map(deeper).collect()
    })
}

/// A drawn view in pages, and what it is made of.
struct Case {
    pool: Pool,
    table: Vec<u32>,
    page_dim: usize,
    token_dim: usize,
    page_size: usize,
    len: usize,
}

impl Case {
    fn random(rng: &mut Rng) -> Case {
        let rank = 1 + rng.below(4);
        let (page_dim, token_dim) = (rng.below(rank + 1), rng.below(rank));
        let (count, page_size) = (1 + rng.below(5), 16 * (1 + rng.below(3)));
        let mut shape: Vec<usize> = (0..rank).map(|_| 1 + rng.below(3)).collect();
        shape[token_dim] = page_size;
        shape.insert(page_dim, count);
        let len = rng.pick(&[0, 1, 15, 16, 17, page_size, 2 * page_size - 1, 2 * page_size, 130]);
        let listed = len.div_ceil(page_size) + rng.below(2);
        let table = (0..listed).map(|_| rng.below(count) as u32).collect();
        Case { pool: Pool::random(rng, &shape), table, page_dim, token_dim, page_size, len }
    }

    fn view(&self) -> PagedView<'_> {
        PagedView::new(self.pool.view(), &self.table, self.page_dim, self.token_dim, self.len).expect("a view")
    }

    /// The element of the pool that an index of the tensor stands for.
    fn expected(&self, index: &[usize]) -> Option<f64> {
        let mut at = index.to_vec();
        at[self.token_dim] = index[self.token_dim] % self.page_size;
        at.insert(self.page_dim, self.table[index[self.token_dim] / self.page_size] as usize);
        self.pool.view().get(&at)
    }
}

#[test]
fn elements_are_those_of_the_pool() {
    for seed in rhumb_random::seeds(0, 300) {
        let case = Case::random(&mut Rng::new(seed));
        let (view, pool) = (case.view(), case.pool.view());
        let mut shape = pool.shape().to_vec();
        shape.remove(case.page_dim);
        shape[case.token_dim] = case.len;
        assert_eq!((view.shape(), view.rank()), (&shape[..], shape.len()), "seed {seed}");
        let dense: Vec<f64> = indices(&shape).iter().filter_map(|index| case.expected(index)).collect();
        assert_eq!(dense.len(), shape.iter().product::<usize>());
        let got: Vec<f64> = indices(&shape).iter().filter_map(|index| view.get(index)).collect();
        assert_eq!(got, dense, "seed {seed}: {view:?}");
        assert_eq!(view.elements().collect::<Vec<_>>(), dense, "seed {seed}: {view:?}");
        assert_eq!((view.len(), view.is_empty()), (dense.len(), dense.is_empty()), "seed {seed}");
        assert_eq!((view.len_tokens(), view.page_size(), view.token_dim()), (case.len, case.page_size, case.token_dim));
    }
}

#[test]
fn pages_have_the_tokens_from_their_start() {
    for seed in rhumb_random::seeds(0, 300) {
        let case = Case::random(&mut Rng::new(seed));
        let (view, pool) = (case.view(), case.pool.view());
        let used = case.len.div_ceil(case.page_size);
        assert_eq!(view.page_table(), &case.table[..used], "seed {seed}");
        assert_eq!(view.pages().count(), used, "seed {seed}");
        assert!(view.page(used).is_none(), "seed {seed}");
        for (position, page) in view.pages().enumerate() {
            let number = view.page_table()[position] as usize;
            let tokens = case.page_size.min(case.len - position * case.page_size);
            let whole = pool.select(case.page_dim, number).expect("a page of the pool");
            let expected = whole.narrow(case.token_dim, 0, tokens).expect("its tokens");
            assert_eq!((page.shape(), page.strides()), (expected.shape(), expected.strides()), "seed {seed}");
            assert_eq!(page.as_ptr(), expected.as_ptr(), "seed {seed}");
            assert_eq!(view.strides(), page.strides(), "seed {seed}");
        }
    }
}

#[test]
fn indices_outside_the_shape_have_no_element() {
    let data = [0.0f32; 3 * 2 * 32 * 4];
    let pool = TensorView::from_slice(&data, &[3, 2, 32, 4]).expect("a pool");
    let view = PagedView::new(pool, &[2, 1], 0, 1, 33).expect("a view");
    assert_eq!(view.get(&[1, 32, 3]), Some(0.0));
    let outside: [&[usize]; 7] =
        [&[1, 33, 3], &[2, 0, 0], &[0, 0, 4], &[0, 0], &[], &[0, 0, 0, 0], &[0, usize::MAX, 0]];
    assert!(outside.iter().all(|index| view.get(index).is_none()));
    assert!(view.get(&[0; MAX_RANK + 1]).is_none());
}

#[test]
fn bytes_of_unused_tokens_and_pages_are_not_the_views() {
    let mut data = vec![0.0f32; 3 * 16 * 4];
    let address = data.as_mut_ptr() as usize;
    let pool = TensorView::from_slice(&data, &[3, 16, 4]).expect("a pool");
    let view = PagedView::new(pool, &[2, 0], 0, 0, 20).expect("a view");
    let token = Layout::contiguous(&[4]).expect("a layout");
    let overlaps = |page: usize, at: usize| {
        view.overlaps(Region { address: address + (page * 16 + at) * 16, width: 4, layout: &token })
    };
    assert!(overlaps(2, 0) && overlaps(2, 15) && overlaps(0, 0) && overlaps(0, 3));
    assert!(!overlaps(0, 4) && !overlaps(0, 15) && !overlaps(1, 0) && !overlaps(1, 15));
}

#[test]
fn pools_without_elements() {
    let none = TensorView::from_slice::<f32>(&[], &[0, 2, 16, 4]).expect("a pool");
    let view = PagedView::new(none, &[], 0, 1, 0).expect("no token");
    assert_eq!((view.shape(), view.is_empty(), view.get(&[0, 0, 0])), (&[2, 0, 4][..], true, None));
    let thin = TensorView::with_strides::<f32>(&[], &[4, 0, 32], &[isize::MAX, 7, 9]).expect("a pool");
    let view = PagedView::new(thin, &[3, 0, 3], 0, 1, 70).expect("a view");
    assert_eq!((view.shape(), view.pages().count(), view.get(&[0, 0])), (&[0, 70][..], 3, None));
    assert!(view.pages().all(|page| page.is_empty()));
}

#[test]
fn views_in_pages_cross_threads_and_print() {
    fn shared<T: Send + Sync + Copy>() {}
    shared::<PagedView<'_>>();
    let data = [0.0f32; 3 * 2 * 32 * 4];
    let pool = TensorView::from_slice(&data, &[3, 2, 32, 4]).expect("a pool");
    let view = PagedView::new(pool, &[2, 1, 0], 0, 1, 33).expect("a view");
    assert_snapshot!(format!("{view:?}"), @"PagedView: f32[2, 33, 4] strides [128, 4, 1], dimension 1 in pages of 32: [2, 1]");
}

#[test]
fn refused_views_in_pages_say_why() {
    let data = [0.0f32; 4 * 2 * 32];
    let pool = |shape: &[usize]| TensorView::from_slice(&data, shape).expect("a pool");
    let error = |pool: TensorView<'_>, pages: &[u32], page_dim: usize, token_dim: usize, len: usize| {
        PagedView::new(pool, pages, page_dim, token_dim, len).expect_err("refused").to_string()
    };
    let repeated = TensorView::with_strides(&data, &[1, 1 << 50, 16], &[0, 0, 0]).expect("a pool");
    let wide = TensorView::with_strides::<f32>(&[], &[0, 16, 3], &[1, isize::MAX, 1]).expect("a pool");
    let shown = [
        error(pool(&[4, 2, 32]), &[0], 3, 0, 1),
        error(pool(&[4, 2, 32]), &[0], 0, 2, 1),
        error(pool(&[256]), &[0], 0, 0, 1),
        error(pool(&[4, 2, 32]), &[0], 0, 0, 1),
        error(pool(&[4, 8, 8]), &[0], 0, 1, 1),
        error(pool(&[8, 32]), &[0, 1], 0, 0, 65),
        error(pool(&[8, 32]), &[], 0, 0, 1),
        error(pool(&[8, 32]), &[0], 0, 0, usize::MAX),
        error(pool(&[8, 32]), &[0, 8], 0, 0, 33),
        error(pool(&[8, 32]), &[u32::MAX], 0, 0, 1),
        error(TensorView::from_slice::<f32>(&[], &[0, 32]).expect("a pool"), &[0], 0, 0, 1),
        error(TensorView::from_slice::<f32>(&[], &[4, 0]).expect("a pool"), &[0], 0, 0, 1),
        error(repeated, &[0; 1 << 10], 0, 1, 1 << 14),
        error(wide, &[], 0, 0, 0),
    ]
    .join("\n");
    assert_snapshot!(shown);
    // What is past the pages in use is not looked at.
    assert!(PagedView::new(pool(&[8, 32]), &[7, 99], 0, 0, 32).is_ok());
}
