//! Which key tiles a call computes.

use std::fmt;
use std::ops::Range;

/// What becomes of a key tile, for the queries of a query tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyTileClass {
    /// The mask hides it: no query of the tile sees any of its keys. Nothing is computed.
    Skipped,
    /// Queries see some of it, but so far below their greatest scores that all weights are 0. Nothing is computed.
    Pruned,
    /// Every query of the tile sees all of its keys: computed without the mask.
    Full,
    /// Some queries see some of its keys, as far as can be told without a look at every pair: computed with the mask.
    Masked,
}

impl KeyTileClass {
    /// All classes, by what they cost.
    pub const ALL: [KeyTileClass; 4] =
        [KeyTileClass::Skipped, KeyTileClass::Pruned, KeyTileClass::Full, KeyTileClass::Masked];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            KeyTileClass::Skipped => "skipped",
            KeyTileClass::Pruned => "pruned",
            KeyTileClass::Full => "full",
            KeyTileClass::Masked => "masked",
        }
    }
}

impl fmt::Display for KeyTileClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A run of keys that a query tile comes to at once, or leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTile {
    /// The keys, counted from the first of the call.
    pub keys: Range<usize>,
    /// What becomes of them.
    pub class: KeyTileClass,
}

/// The key tiles of a query tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryTileRow {
    /// The queries, counted from the first of the call. Where heads share tiles, a tile may end between the heads of a query, which then
    /// belongs to the next tile too.
    pub queries: Range<usize>,
    /// All keys, in order.
    pub tiles: Vec<KeyTile>,
}

/// The tiles of one attention of a call: of one sequence and one head, as a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileUnit {
    /// Where it stands along each of [`TileMap::axes`]: several heads where these share tiles.
    pub index: Vec<Range<usize>>,
    /// The query tiles, in order.
    pub rows: Vec<QueryTileRow>,
}

/// Which key tiles a call computed for each query tile, as [`Call::trace`](crate::Call::trace) found it. Prints as a table of counts.
///
/// ```
/// use rhumb_plugins::{Attention, Causal};
/// use rhumb_runtime::{Engine, KeyTileClass, TensorView, TensorViewMut};
///
/// let graph = Attention::heads(1).head_dim(16).scheme(Causal).build()?;
/// let (shape, data) = ([1, 1, 512, 16], vec![0.5f32; 512 * 16]);
/// let view = TensorView::from_slice(&data, &shape)?;
/// let mut out = vec![0.0f32; 512 * 16];
/// let kernel = Engine::host()?.compile(&graph)?;
/// let call = kernel.call().input("q", view).input("k", view).input("v", view);
/// let map = call.output("out", TensorViewMut::from_slice(&mut out, &shape)?).trace()?.expect("an attention");
///
/// // No query sees a later key: near half of the pairs lie in tiles that are skipped, and few need the mask.
/// assert!(map.share(KeyTileClass::Skipped) > 0.4 && map.share(KeyTileClass::Masked) < 0.2);
/// println!("{map}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TileMap {
    pub(crate) axes: Vec<String>,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) key_tile: usize,
    pub(crate) query_tile: usize,
    pub(crate) units: Vec<TileUnit>,
}

impl TileMap {
    /// The names of the axes that attentions of the call stand along, outermost first: batch and heads, as a rule.
    pub fn axes(&self) -> &[String] {
        &self.axes
    }

    /// The attentions of the call.
    pub fn units(&self) -> &[TileUnit] {
        &self.units
    }

    /// The number of queries.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// The number of keys.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// The most queries of a tile, those of heads that share it counted each.
    pub fn query_tile(&self) -> usize {
        self.query_tile
    }

    /// The most keys of a tile.
    pub fn key_tile(&self) -> usize {
        self.key_tile
    }

    /// The number of tiles of a class; keys that are skipped count as the tiles that would be made of them.
    pub fn count(&self, class: KeyTileClass) -> usize {
        self.tiles().filter(|(_, tile)| tile.class == class).count()
    }

    /// The share of query-key pairs that lie in tiles of a class: 0 of a call without pairs.
    pub fn share(&self, class: KeyTileClass) -> f64 {
        let pairs = |class: Option<KeyTileClass>| -> f64 {
            let tiles = self.tiles().filter(|(_, tile)| class.is_none_or(|class| tile.class == class));
            tiles.fold(0.0, |pairs, (row, tile)| pairs + row.queries.len() as f64 * tile.keys.len() as f64)
        };
        let all = pairs(None);
        if all == 0.0 { 0.0 } else { pairs(Some(class)) / all }
    }

    fn tiles(&self) -> impl Iterator<Item = (&QueryTileRow, &KeyTile)> {
        let rows = self.units.iter().flat_map(|unit| &unit.rows);
        rows.flat_map(|row| row.tiles.iter().map(move |tile| (row, tile)))
    }
}

impl fmt::Display for TileMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TileMap { axes, queries, keys, key_tile, query_tile, units } = self;
        let over = if axes.is_empty() { String::new() } else { format!(" over [{}]", axes.join(", ")) };
        writeln!(f, "{queries} queries x {keys} keys, {} times{over}", units.len())?;
        writeln!(f, "tiles of at most {query_tile} queries x {key_tile} keys")?;
        for class in KeyTileClass::ALL {
            writeln!(f, "  {class:<8} {:>9} tiles  {:5.1} % of pairs", self.count(class), 100.0 * self.share(class))?;
        }
        Ok(())
    }
}
