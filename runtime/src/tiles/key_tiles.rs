//! Key tiles of a run of keys.

/// Key tiles begin at multiples of this from the first key, a multiple of the rows of every register tile.
const STEP: usize = 16;

/// A run of keys in tiles that are as even as can be, the larger first: so tiles of runs that begin alike are the same for the most part,
/// and query tiles that take turns at them find them in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyTiles {
    first: usize,
    end: usize,
    /// Where the first tile would begin, were it whole.
    origin: usize,
    /// The number of tiles that are a step longer than the others.
    larger: usize,
    /// Steps of the others.
    steps: usize,
}

impl KeyTiles {
    /// Cuts a run into as few tiles as there can be of at most `most` keys, a multiple of 16.
    pub(crate) fn new((first, end): (usize, usize), most: usize) -> KeyTiles {
        let steps = (end - first).div_ceil(STEP);
        let count = (end - first).div_ceil(most.max(STEP)).max(1);
        KeyTiles { first, end, origin: first, larger: steps % count, steps: steps / count }
    }

    /// Cuts a run at the multiples of `size`, itself a multiple of 16.
    pub(crate) fn on_grid((first, end): (usize, usize), size: usize) -> KeyTiles {
        let size = size.max(STEP);
        KeyTiles { first, end, origin: first / size * size, larger: 0, steps: size / STEP }
    }

    /// The steps from the origin to the tile with this number.
    fn start(&self, number: usize) -> usize {
        number * self.steps + number.min(self.larger)
    }

    /// The number of the tile with a key.
    fn number(&self, key: usize) -> usize {
        let step = (key - self.origin) / STEP;
        let in_larger = self.larger * (self.steps + 1);
        match step.checked_sub(in_larger) {
            Some(rest) => self.larger + rest / self.steps.max(1),
            None => step / (self.steps + 1),
        }
    }

    /// Whether a key is one of the run.
    #[cfg(test)]
    pub(crate) fn has(&self, key: usize) -> bool {
        (self.first..self.end).contains(&key)
    }

    /// The tile with a key of the run.
    pub(crate) fn around(&self, key: usize) -> (usize, usize) {
        let number = self.number(key);
        let key = |number: usize| (self.origin + self.start(number) * STEP).clamp(self.first, self.end);
        (key(number), key(number + 1))
    }

    /// The tiles that lie between two keys: the first of them and the end, empty if there are none.
    pub(crate) fn within(&self, (from, to): (usize, usize)) -> (usize, usize) {
        if from >= self.end || to <= self.first {
            return (self.end, self.end);
        }
        let from = match self.around(from.max(self.first)) {
            (start, end) if start < from => end,
            (start, _) => start,
        };
        let to = if to >= self.end { self.end } else { self.around(to).0 };
        (from, to.max(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_even_and_cover_the_run() {
        for (first, len) in [(0, 1), (0, 16), (16, 17), (0, 64), (32, 65), (0, 130), (48, 336), (0, 2047), (64, 2048)] {
            let tiles = KeyTiles::new((first, first + len), 64);
            let (mut at, mut sizes) = (first, Vec::new());
            while at < first + len {
                let (start, end) = tiles.around(at);
                assert!(start == at && end > at && end - at <= 64, "{tiles:?}: {start} to {end} at {at}");
                assert!((start..end).all(|key| tiles.around(key) == (start, end)), "{tiles:?}: {start} to {end}");
                sizes.push((end - start).next_multiple_of(STEP));
                at = end;
            }
            assert_eq!(at, first + len);
            assert_eq!(sizes.len(), len.div_ceil(64), "{tiles:?}");
            let [least, most] = [sizes.iter().min(), sizes.iter().max()].map(|size| *size.expect("a tile"));
            assert!(most - least <= STEP, "{sizes:?}");
        }
    }

    #[test]
    fn tiles_on_a_grid_end_at_its_multiples() {
        let tiles = KeyTiles::on_grid((80, 200), 64);
        assert_eq!(
            [80, 127, 128, 191, 192, 199].map(|key| tiles.around(key)),
            [(80, 128), (80, 128), (128, 192), (128, 192), (192, 200), (192, 200)]
        );
        assert_eq!(tiles.within((80, 192)), (80, 192));
        assert_eq!(tiles.within((96, 200)), (128, 200));
        assert_eq!(KeyTiles::on_grid((64, 65), 64).around(64), (64, 65));
        // Far from the first key too.
        let far = KeyTiles::on_grid((8272, 8400), 64);
        assert_eq!(
            [8272, 8319, 8320, 8399].map(|key| far.around(key)),
            [(8272, 8320), (8272, 8320), (8320, 8384), (8384, 8400)]
        );
    }

    #[test]
    fn whole_tiles_between_keys() {
        let tiles = KeyTiles::new((0, 150), 64);
        assert_eq!([0, 64, 112].map(|key| tiles.around(key)), [(0, 64), (64, 112), (112, 150)]);
        assert_eq!(tiles.within((0, 112)), (0, 112));
        assert_eq!(tiles.within((0, 128)), (0, 112));
        assert_eq!(tiles.within((16, 128)), (64, 112));
        assert_eq!(tiles.within((80, 400)), (112, 150));
        for none in [(16, 96), (80, 96), (160, 176)] {
            let (from, to) = tiles.within(none);
            assert!(from >= to, "{none:?}");
        }
    }
}
