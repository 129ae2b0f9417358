//! Products of rows and keys. Lanes are elements; sums across lanes are formed for four keys at a time, which makes a vector of them.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value as Ssa, types};

use super::ahead::{Ahead, Away, ask_for, each_key, turns};
use super::computed::{self, Computed};
use super::integers::{self, is_odd_query, odd_rows, pair_bytes};
use super::rows::{Rows, Turn, by_register_tiles, elements_before, load, padded, query_bytes, score_bytes};
use super::source::{Loaded, Source, Wanted};
use crate::abi::TileCall;
use crate::codegen::error::CodegenError;
use crate::codegen::expr::ExprEmitter;
use crate::codegen::loops::{either, range_loop};
use crate::codegen::tile::even::Even;
use crate::codegen::tile::lanes::{quarter, sums_of_fours};
use crate::codegen::tile::query_tile::Mode;
use crate::codegen::vocab::{access, by_name};
use crate::machine::LANE_BYTES;
use crate::plan::{Product, RowTile};

/// Bytes of the products of a row and a group of keys.
const GROUP_BYTES: usize = RowTile::GROUP * LANE_BYTES;

/// A register tile: some rows, some keys.
struct Block<'a> {
    rows: Rows<'a>,
    product: &'a Product,
    source: Source,
    /// What computes the rows of keys, where they are not there before.
    computed: Option<&'a Computed<'a>>,
    /// The first row, and how many.
    row: Ssa,
    tile: RowTile,
    turn: Turn,
}

/// The products of all rows and all keys of the key tile, joined to those of the products before it.
pub(super) fn products(
    emitter: &mut ExprEmitter<'_, '_>,
    (rows, mode): (Rows<'_>, Mode),
    product: &Product,
) -> Result<(), CodegenError> {
    let attention = rows.tile.attention;
    let before = elements_before(emitter, attention, product);
    let numbered = attention.products[..product.index].iter().filter_map(|before| before.scaled).count();
    let wanted = Wanted {
        tensor: product.key,
        scaled: product.scaled,
        dim: product.dim,
        length: product.length,
        loaded: match emitter.plan {
            plan if plan.integers.products => Loaded::IntegerPairs,
            plan if plan.bf16_pairs.factor.is_some() => Loaded::Bf16Pairs,
            _ => Loaded::Elements,
        },
        fields: [TileCall::keys_of(product.index), TileCall::next_keys_of(product.index)],
        place: emitter.plan.scratch.key_rows + LANE_BYTES * before,
        pitch: query_bytes(emitter, attention),
        numbers: emitter.plan.scratch.key_numbers + 2 * emitter.plan.tiling.number_bytes() * numbered,
    };
    let saved = emitter.save();
    if !rows.decode.loaded.is_empty() {
        emitter.bind_groups();
    }
    let (source, computed) = computed::source(emitter, rows, wanted)?;
    let computed = computed.as_ref();
    let turns = turns(emitter, computed.map_or(source, Computed::of), mode);
    let mut result = Ok(());
    let mut keep = |done: Result<(), CodegenError>| result = std::mem::replace(&mut result, Ok(())).and(done);
    by_register_tiles(emitter, rows, turns, |emitter, row, tile, turn| {
        keep(Block { rows, product, source, computed, row, tile, turn }.all_keys(emitter));
    });
    emitter.restore(saved);
    if source.loaded == Loaded::IntegerPairs {
        let is_odd = |emitter: &mut ExprEmitter<'_, '_>, row| is_odd_query(emitter, rows, row);
        odd_rows(emitter, rows, is_odd, |emitter, row, tile| {
            let source = source.by_elements();
            keep(Block { rows, product, source, computed: None, row, tile, turn: Turn::Later }.all_keys(emitter));
        });
    }
    result
}

/// The addresses of rows of keys that are multiplied at once.
enum Keys<'k> {
    /// At even distances; what is asked for, as seen from them.
    Even(Even, &'k [Away]),
    Each(Vec<Ssa>),
}

impl Keys<'_> {
    /// The addresses that lead to all, which step together.
    fn pointers(&self) -> &[Ssa] {
        match self {
            Keys::Even(even, _) => &even.pointers,
            Keys::Each(rows) => rows,
        }
    }

    /// The addresses of the rows, from where the pointers are now; asks for others that lie as these do.
    fn rows(&self, emitter: &mut ExprEmitter<'_, '_>, pointers: &[Ssa]) -> Vec<Ssa> {
        let Keys::Even(even, ahead) = self else { return pointers.to_vec() };
        let rows = even.addresses(emitter, pointers);
        rows.iter().for_each(|row| ask_for(emitter, (*row, 1), ahead));
        rows
    }
}

impl Block<'_> {
    /// The products with all keys.
    fn all_keys(&self, emitter: &mut ExprEmitter<'_, '_>) -> Result<(), CodegenError> {
        let keys = self.rows.keys;
        let groups = self.tile.key_groups;
        let at_once = RowTile::GROUP * groups;
        let step = at_once as i64;
        let start = emitter.fb().ins().iconst(types::I64, 0);
        let whole = emitter.fb().ins().band_imm_s(keys, -step);
        let ahead = Ahead::new(emitter, (self.rows, self.turn), (self.source, at_once));
        let early = self.early(emitter, |emitter| self.clamped(emitter, (start, groups)));
        let computed = self.computed.map_or_else(Vec::new, |computed| computed.ahead(emitter, self.turn));
        let mut result = Ok(());
        each_key(emitter, (start, whole, at_once), &ahead, &early, |emitter, key, ahead, early| {
            let end = emitter.fb().ins().iadd_imm_s(key, step);
            result = self.compute(emitter, (key, end), &computed);
            let keys = Keys::Even(self.even(emitter, key), ahead);
            let sums = self.sums(emitter, (key, groups), &keys, early);
            // Sums across lanes and conversions take the same units: what comes next waits for neither.
            let early = self.early(emitter, |emitter| {
                let next = emitter.fb().ins().iadd_imm_s(key, step);
                let is_whole = emitter.fb().ins().icmp(IntCC::SignedLessThan, next, whole);
                let next = emitter.fb().ins().select(is_whole, next, key);
                let even = self.even(emitter, next);
                even.addresses(emitter, &even.pointers)
            });
            self.store(emitter, key, groups, &sums);
            early
        });
        let result = result.and(self.compute(emitter, (whole, keys), &computed));
        range_loop(emitter, whole, keys, RowTile::GROUP as i64, &[], |emitter, key, _| {
            let keys = Keys::Each(self.clamped(emitter, (key, 1)));
            let sums = self.sums(emitter, (key, 1), &keys, &[]);
            self.store(emitter, key, 1, &sums);
            Vec::new()
        });
        result
    }

    /// Computes the rows of the keys from one up to another, if no register tile before did.
    fn compute(
        &self,
        emitter: &mut ExprEmitter<'_, '_>,
        keys: (Ssa, Ssa),
        ahead: &[Ahead],
    ) -> Result<(), CodegenError> {
        let Some(computed) = self.computed.filter(|_| self.turn != Turn::Later) else { return Ok(()) };
        let is_first = emitter.fb().ins().icmp_imm_s(IntCC::Equal, self.row, 0);
        let mut result = Ok(());
        let compute = |emitter: &mut ExprEmitter<'_, '_>| {
            result = computed.compute(emitter, keys, ahead);
            Vec::new()
        };
        either(emitter, is_first, compute, |_| Vec::new());
        result
    }

    /// The addresses of the rows of as many keys as the register tile has, from one on.
    fn even(&self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa) -> Even {
        let first = self.address(emitter, key);
        Even::new(emitter, first, self.source.stride, RowTile::GROUP * self.tile.key_groups)
    }

    /// The address of the row of a key.
    fn address(&self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa) -> Ssa {
        let slot = self.computed.map_or(key, |computed| computed.slot(emitter, key));
        let offset = emitter.fb().ins().imul(slot, self.source.stride);
        emitter.fb().ins().iadd(self.source.first, offset)
    }

    /// The addresses of the rows of some groups of keys from one on: those past the last key repeat it.
    fn clamped(&self, emitter: &mut ExprEmitter<'_, '_>, (key, groups): (Ssa, usize)) -> Vec<Ssa> {
        let last = emitter.fb().ins().iadd_imm_s(self.rows.keys, -1);
        let each = (0..(RowTile::GROUP * groups) as i64).map(|n| {
            let key = emitter.fb().ins().iadd_imm_s(key, n);
            let key = emitter.v.smin(key, last);
            self.address(emitter, key)
        });
        each.collect()
    }

    /// The vectors of a row, and how many of them are multiplied with at once.
    fn vectors(&self, emitter: &ExprEmitter<'_, '_>) -> (usize, usize) {
        let vectors = self.query_bytes(emitter) as usize / emitter.plan.machine.vector_bytes();
        (vectors, self.source.vectors_at_once(emitter, vectors))
    }

    /// Loads the first vectors of the rows at some addresses if they are converted, as many as registers can be spared for.
    fn early<'e, 'f>(
        &self,
        emitter: &mut ExprEmitter<'e, 'f>,
        rows: impl FnOnce(&mut ExprEmitter<'e, 'f>) -> Vec<Ssa>,
    ) -> Vec<Ssa> {
        if !self.source.is_converted() {
            return Vec::new();
        }
        let rows = rows(emitter);
        let spared = emitter.plan.machine.registers / 4 / rows.len();
        let (vectors, at_once) = self.vectors(emitter);
        let step = self.source.vector_bytes(emitter) as i32;
        let offsets = (0..spared.min(at_once).min(vectors) as i32).map(|vector| vector * step);
        let all = offsets.flat_map(|offset| rows.iter().map(move |row| (*row, offset)));
        all.map(|(row, offset)| self.source.load(emitter, row, offset)).collect()
    }

    /// Bytes of the elements of a query that rows are multiplied with.
    fn query_bytes(&self, emitter: &ExprEmitter<'_, '_>) -> i64 {
        match self.source.loaded {
            Loaded::Bf16Pairs | Loaded::IntegerPairs => pair_bytes(emitter, self.product),
            Loaded::Elements => LANE_BYTES as i64 * i64::from(padded(emitter, self.product.length)),
        }
    }

    /// Sums of products with some groups of keys from one on, lane by lane: key after key, row after row. The first vectors of their rows may be
    /// loaded already.
    fn sums(
        &self,
        emitter: &mut ExprEmitter<'_, '_>,
        (key, groups): (Ssa, usize),
        keys: &Keys<'_>,
        early: &[Ssa],
    ) -> Vec<Ssa> {
        let loaded = self.source.loaded;
        let bytes = emitter.lane_bytes(key);
        let numbers = self.source.numbers.from(emitter, bytes);
        let (queries, pitch) = self.queries(emitter);
        let end = self.query_bytes(emitter);
        let end = emitter.fb().ins().iadd_imm_s(queries, end);
        let at_once = self.vectors(emitter).1 as i64;
        let (vector, key_step) = (emitter.plan.machine.vector_bytes() as i64, self.source.vector_bytes(emitter));
        let (held, step) = (keys.pointers().len(), at_once * vector);
        let mut carried = keys.pointers().to_vec();
        carried.extend((0..RowTile::GROUP * groups * self.tile.rows).map(|_| match loaded {
            Loaded::IntegerPairs => emitter.v.int(0),
            Loaded::Bf16Pairs | Loaded::Elements => emitter.v.float(0.0),
        }));
        let one_step = |emitter: &mut ExprEmitter<'_, '_>, element: Ssa, carried: &[Ssa], early: &[Ssa]| {
            let (pointers, sums) = carried.split_at(held);
            let rows = keys.rows(emitter, pointers);
            let mut next: Vec<Ssa> =
                pointers.iter().map(|p| emitter.fb().ins().iadd_imm_s(*p, at_once * key_step)).collect();
            let mut sums = sums.to_vec();
            let ty = if loaded.is_pairs() { emitter.v.int_type() } else { emitter.v.float_type() };
            for vector_of in 0..at_once {
                let query = |r: usize| (r as i64 * pitch + vector_of * vector) as i32;
                let queries: Vec<Ssa> = (0..self.tile.rows).map(|r| load(emitter, ty, element, query(r))).collect();
                for (n, (row, sums)) in rows.iter().zip(sums.chunks_mut(self.tile.rows)).enumerate() {
                    let elements = match early.get(vector_of as usize * rows.len() + n) {
                        Some(elements) => *elements,
                        None => self.source.load(emitter, *row, (vector_of * key_step) as i32),
                    };
                    let elements = numbers.shifted(emitter, elements, n);
                    sums.iter_mut().zip(&queries).for_each(|(sum, query)| {
                        *sum = self.added(emitter, *sum, (*query, elements));
                    });
                }
            }
            next.extend(sums);
            next
        };
        let mut from = queries;
        if !early.is_empty() {
            carried = one_step(emitter, queries, &carried, early);
            from = emitter.fb().ins().iadd_imm_s(queries, step);
        }
        let done = range_loop(emitter, from, end, step, &carried, |emitter, element, carried| {
            one_step(emitter, element, carried, &[])
        });
        let sums = &done[held..];
        if loaded == Loaded::IntegerPairs && !integers::fits(self.product.length) {
            return sums.iter().map(|sum| emitter.v.int_to_float(*sum)).collect();
        }
        sums.to_vec()
    }

    /// A sum with the products of a vector of a query and of one of a key.
    fn added(&self, emitter: &mut ExprEmitter<'_, '_>, sum: Ssa, (query, key): (Ssa, Ssa)) -> Ssa {
        match self.source.loaded {
            Loaded::Bf16Pairs => {
                let float = emitter.v.float_type();
                by_name(emitter.fb(), clif_wide::DOT_BF16, &[sum, query, key], float)
            }
            Loaded::IntegerPairs => integers::dot(emitter, sum, query, key),
            Loaded::Elements => emitter.v.fma(query, key, sum),
        }
    }

    /// The address of the first row's query, and the bytes to the next.
    fn queries(&self, emitter: &mut ExprEmitter<'_, '_>) -> (Ssa, i64) {
        let (attention, layout) = (self.rows.tile.attention, emitter.plan.scratch);
        let (pitch, start) = match self.source.loaded {
            Loaded::IntegerPairs => (pair_bytes(emitter, self.product), layout.query_pairs),
            Loaded::Bf16Pairs | Loaded::Elements => {
                let before = elements_before(emitter, attention, self.product);
                (query_bytes(emitter, attention), layout.queries + LANE_BYTES * before)
            }
        };
        let skipped = emitter.fb().ins().imul_imm_s(self.row, pitch);
        let queries = emitter.fb().ins().iadd(self.rows.tile.state, skipped);
        (emitter.fb().ins().iadd_imm_s(queries, start as i64), pitch)
    }

    /// Products of a row, whose sums are of integers where its query is: times the scale of that.
    fn of_query(&self, emitter: &mut ExprEmitter<'_, '_>, products: Ssa, row: usize) -> Ssa {
        if self.source.loaded != Loaded::IntegerPairs {
            return products;
        }
        let (place, part) = self.rows.number(emitter, self.row, emitter.plan.scratch.query_scales);
        let scale = load(emitter, types::F32, place, part + (LANE_BYTES * row) as i32);
        let ty = emitter.fb().func.dfg.value_type(products);
        let scale = emitter.fb().ins().splat(ty, scale);
        emitter.v.fmul(products, scale)
    }

    /// Sums across lanes, and stores the products: added to those that are there, if there are.
    fn store(&self, emitter: &mut ExprEmitter<'_, '_>, key: Ssa, groups: usize, sums: &[Ssa]) {
        let (quarters, rows) = (emitter.plan.machine.lanes / RowTile::GROUP, self.tile.rows);
        let scores = self.rows.scores(emitter, self.row);
        let offset = emitter.lane_bytes(key);
        let scores = emitter.fb().ins().iadd(scores, offset);
        let numbers = self.source.numbers.from(emitter, offset);
        let places: Vec<(usize, usize)> =
            (0..rows).flat_map(|row| (0..groups).map(move |group| (row, group))).collect();
        let pitch = score_bytes(emitter);
        for places in places.chunks(quarters) {
            let set =
                |&(row, group): &(usize, usize)| [0, 1, 2, 3].map(|n| sums[(group * RowTile::GROUP + n) * rows + row]);
            let sets: Vec<[Ssa; 4]> = places.iter().map(set).collect();
            let mut products = match self.source.loaded {
                Loaded::IntegerPairs if integers::fits(self.product.length) => integers::sums(emitter, &sets),
                _ => sums_of_fours(emitter, &sets, &|emitter, a, b| emitter.v.fadd(a, b)),
            };
            if let Some(factor) = emitter.plan.bf16_pairs.outside() {
                let factor = emitter.v.float(factor);
                products = emitter.v.fmul(products, factor);
            }
            let scaled = |emitter: &mut ExprEmitter<'_, '_>, products: Ssa, (row, group): (usize, usize)| {
                let products = self.of_query(emitter, products, row);
                numbers.scaled_lanes(emitter, products, (GROUP_BYTES * group) as i32)
            };
            let at = |(row, group): (usize, usize)| (row as i64 * pitch) as i32 + (GROUP_BYTES * group) as i32;
            if groups.is_multiple_of(quarters) {
                let products = scaled(emitter, products, places[0]);
                self.put(emitter, (scores, at(places[0])), products);
                continue;
            }
            for (number, place) in places.iter().enumerate() {
                let products = quarter(emitter, products, number);
                let products = scaled(emitter, products, *place);
                self.put(emitter, (scores, at(*place)), products);
            }
        }
    }

    /// Stores products of successive keys.
    fn put(&self, emitter: &mut ExprEmitter<'_, '_>, (scores, place): (Ssa, i32), mut products: Ssa) {
        if self.product.index > 0 {
            let ty = emitter.fb().func.dfg.value_type(products);
            let before = load(emitter, ty, scores, place);
            products = emitter.v.fadd(before, products);
        }
        emitter.fb().ins().store(access(), products, scores, place);
    }
}
