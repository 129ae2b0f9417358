//! The trait of position schemes and the context they build IR through.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use rhumb_ir::{Axis, AxisInfo, Elem, Expr, Extent, GraphBuilder, Hook, Instance, Length, Site, Type, Value};

use crate::attrs::IntOrValue;
use crate::declare::Declared;
use crate::error::SchemeError;

/// The longest axis that schemes make tables for: far beyond any head count or head dimension.
const MOST: u32 = 1 << 20;

/// A position scheme or a mask: mathematics that transforms the query, the key, the score or the mask of an attention.
///
/// A scheme writes IR through a [`SchemeContext`] and states nothing but mathematics. It never sees log2 scaling, tiles or lanes: those are
/// the compiler's, which knows ops and no scheme names, so a scheme of any crate runs as fast as a built-in one.
///
/// What it is called, where it works and which attributes it has is declared, by [`scheme!`](crate::scheme!).
pub trait PositionScheme: Declared {
    /// The hooks at which the scheme does something, of those that are declared; the methods of the others are not called.
    fn hooks(&self) -> &[Hook] {
        &self.info().hooks
    }

    /// Checks what the declaration can't say: how attributes go together, and with the attention around. Called before any hook, once the
    /// attributes are known to be in their ranges; [`SchemeContext::check`] checks both.
    ///
    /// # Errors
    /// [`SchemeError`] says what is wrong.
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        let _ = cx;
        Ok(())
    }

    /// The query, transformed.
    ///
    /// # Errors
    /// [`SchemeError`] says what is wrong.
    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let _ = cx;
        Ok(x)
    }

    /// The key, transformed.
    ///
    /// # Errors
    /// [`SchemeError`] says what is wrong.
    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let _ = cx;
        Ok(x)
    }

    /// The score, transformed. It comes scaled and capped; masks come after.
    ///
    /// # Errors
    /// [`SchemeError`] says what is wrong.
    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        let _ = cx;
        Ok(score)
    }

    /// The mask: a `bool` value, true where the query attends to the key.
    ///
    /// # Errors
    /// [`SchemeError`] says what is wrong.
    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(cx.builder().bool(true))
    }
}

/// A scheme, shared: with every op that it is applied by, so that what is compiled is this very scheme.
///
/// Any scheme converts to one; [`Scheme::new`] says so where types are to be told.
#[derive(Clone)]
pub struct Scheme(Arc<Box<dyn PositionScheme>>);

impl Scheme {
    /// The scheme, shared.
    pub fn new(scheme: impl PositionScheme + 'static) -> Scheme {
        Scheme(Arc::new(Box::new(scheme)))
    }

    /// What scheme ops carry.
    pub(crate) fn instance(&self) -> Instance {
        Instance::new(self.0.clone())
    }

    /// What a scheme op carries, if it is a scheme.
    pub(crate) fn of(instance: &Instance) -> Option<Scheme> {
        instance.get().map(Scheme)
    }
}

impl<S: PositionScheme + 'static> From<S> for Scheme {
    fn from(scheme: S) -> Scheme {
        Scheme::new(scheme)
    }
}

impl Deref for Scheme {
    type Target = dyn PositionScheme;
    fn deref(&self) -> &(dyn PositionScheme + 'static) {
        &**self.0
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheme({} {:?})", self.name(), self.attributes())
    }
}

/// What a scheme builds IR through: the positions, indices and axes of the attention around it.
///
/// Positions feed rotations and biases, and may be `i32` or `f32`; indices count tokens from the first key, are `i32`, and feed masks.
#[derive(Clone, Debug)]
pub struct SchemeContext<'g> {
    builder: &'g GraphBuilder,
    site: Site,
    made: Rc<Made>,
    /// What the values that the scheme holds are called here; `None` where they are called the same.
    renamed: Option<Rc<[(Value, Value)]>>,
}

/// Tables made for schemes of one graph: asking twice gives the same, so that query and key share a table of frequencies.
#[derive(Debug, Default)]
pub(crate) struct Made {
    tables: RefCell<Vec<Table>>,
}

#[derive(Debug)]
struct Table {
    dims: Vec<Axis>,
    data: Arc<[f64]>,
    value: Value,
}

impl<'g> SchemeContext<'g> {
    /// The context of a site whose values belong to `builder`: for graphs of one's own.
    pub fn new(builder: &'g GraphBuilder, site: Site) -> SchemeContext<'g> {
        SchemeContext::sharing(builder, site, Rc::default())
    }

    /// The context of one of several sites of a graph, which share tables.
    pub(crate) fn sharing(builder: &'g GraphBuilder, site: Site, made: Rc<Made>) -> SchemeContext<'g> {
        SchemeContext { builder, site, made, renamed: None }
    }

    /// The context of a scheme that holds values of another graph: each is followed by the value that stands for it here.
    pub(crate) fn renamed(self, values: Vec<(Value, Value)>) -> SchemeContext<'g> {
        SchemeContext { renamed: Some(values.into()), ..self }
    }

    /// The values made earlier that the scheme may read: those of its site, and tables of constants.
    pub(crate) fn offered(&self) -> Vec<Value> {
        let tables = self.made.tables.borrow();
        self.site.values().map(|(_, value)| value).into_iter().chain(tables.iter().map(|table| table.value)).collect()
    }

    /// Checks that a scheme fits the attention around: that its attributes are as declared, then what it says itself.
    ///
    /// # Errors
    /// [`SchemeError`] says what is wrong.
    pub fn check(&self, scheme: &dyn PositionScheme) -> Result<(), SchemeError> {
        scheme.info().check(&scheme.attributes())?;
        scheme.check(self)
    }

    /// The builder, for all that the context has no shorter way to say.
    pub fn builder(&self) -> &'g GraphBuilder {
        self.builder
    }

    /// The attention around the scheme.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Position of each query, over the query axis (and others, such as the batch).
    pub fn q_pos(&self) -> Expr<'g> {
        self.builder.expr(self.site.q_pos)
    }

    /// Position of each key, over the key axis (and others, such as the batch).
    pub fn k_pos(&self) -> Expr<'g> {
        self.builder.expr(self.site.k_pos)
    }

    /// Token index of each query, counted from the first key.
    pub fn q_index(&self) -> Expr<'g> {
        self.builder.expr(self.site.q_index)
    }

    /// Token index of each key.
    pub fn k_index(&self) -> Expr<'g> {
        self.builder.expr(self.site.k_index)
    }

    /// The number of tokens so far, told by each call: a scalar `i32`.
    pub fn length(&self) -> Expr<'g> {
        self.builder.expr(self.site.length)
    }

    /// The axis of queries.
    pub fn query_axis(&self) -> Axis {
        self.site.query
    }

    /// The axis of keys.
    pub fn key_axis(&self) -> Axis {
        self.site.key
    }

    /// The axis that query and key are contracted over.
    pub fn dim_axis(&self) -> Axis {
        self.site.dim
    }

    /// The axis of query heads.
    ///
    /// # Errors
    /// [`SchemeError::NoHeads`] if the attention has none.
    pub fn head_axis(&self) -> Result<Axis, SchemeError> {
        self.site.head.ok_or(SchemeError::NoHeads)
    }

    /// The index of the query head, from 0.
    ///
    /// # Errors
    /// [`SchemeError::NoHeads`] if the attention has none.
    pub fn head(&self) -> Result<Expr<'g>, SchemeError> {
        Ok(self.builder.iota(self.head_axis()?))
    }

    /// The number of query heads.
    ///
    /// # Errors
    /// [`SchemeError::NoHeads`], or as [`length_of`](SchemeContext::length_of).
    pub fn heads(&self) -> Result<u32, SchemeError> {
        self.length_of(self.head_axis()?)
    }

    /// The number of elements of a head of query and key.
    ///
    /// # Errors
    /// As [`length_of`](SchemeContext::length_of).
    pub fn head_dim(&self) -> Result<u32, SchemeError> {
        self.length_of(self.site.dim)
    }

    /// The static length of an axis.
    ///
    /// # Errors
    /// [`SchemeError::DynamicAxis`] if it has none, [`SchemeError::LongAxis`] if it is beyond a million.
    pub fn length_of(&self, axis: Axis) -> Result<u32, SchemeError> {
        match self.builder.axis_info(axis) {
            Some(info) => match info.extent {
                Extent::Static(n) if n <= MOST => Ok(n),
                Extent::Static(length) => Err(SchemeError::LongAxis { axis: info.name, length, most: MOST }),
                Extent::Dynamic => Err(SchemeError::DynamicAxis { axis: info.name }),
            },
            None => Err(SchemeError::DynamicAxis { axis: format!("{}", axis.index()) }),
        }
    }

    /// A number of type `f32`.
    pub fn scalar(&self, x: f64) -> Expr<'g> {
        self.builder.scalar(x)
    }

    /// A number of type `i32`.
    pub fn int(&self, x: i32) -> Expr<'g> {
        self.builder.int(x)
    }

    /// An axis of a scheme's own, such as the pairs of a rotation or the buckets of a table. Asking again with the same name and length
    /// gives the same axis, here, in a closure of [`Attention`](crate::Attention) and in the hooks of a scheme, so that what one declares
    /// another may index. A name that is taken by something else, which the axes of the attention itself are, gets a number.
    pub fn axis(&self, name: &str, length: impl Length) -> Axis {
        let length = length.length();
        let mut unique = name.to_owned();
        let mut number = 1;
        while let Some(axis) = self.builder.axis_named(&unique) {
            let same = |info: AxisInfo| {
                let fixed = if let Extent::Static(fixed) = info.extent { Some(fixed.into()) } else { None };
                fixed == Some(length) && info.groups.is_none()
            };
            if self.builder.axis_info(axis).is_some_and(same) && !self.site.axes().any(|of_site| of_site == axis) {
                return axis;
            }
            number += 1;
            unique = format!("{name}_{number}");
        }
        self.builder.axis_of(&unique, length)
    }

    /// A table of constants of type `f32` over static axes, row-major, kept in double precision. The same table is made once.
    pub fn table(&self, dims: &[Axis], data: impl Into<Arc<[f64]>>) -> Expr<'g> {
        let data = data.into();
        let mut tables = self.made.tables.borrow_mut();
        let same =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        if let Some(table) = tables.iter().find(|table| table.dims == dims && same(&table.data, &data)) {
            return self.builder.expr(table.value);
        }
        let table = self.builder.table(dims.iter().copied(), data.clone());
        tables.push(Table { dims: dims.to_vec(), data, value: table.value() });
        table
    }

    /// A table of one constant per query head.
    ///
    /// # Errors
    /// [`SchemeError::NoHeads`] if the attention has no heads.
    pub fn per_head(&self, data: impl Into<Arc<[f64]>>) -> Result<Expr<'g>, SchemeError> {
        Ok(self.table(&[self.head_axis()?], data))
    }

    /// The value of a value attribute.
    ///
    /// # Errors
    /// [`SchemeError::AttrValue`] if the graph has no such value, [`SchemeError::Untold`] if the scheme's attributes do not tell it.
    pub fn value(&self, name: &str, value: Value) -> Result<Expr<'g>, SchemeError> {
        let value = match &self.renamed {
            None => value,
            Some(renamed) => match renamed.iter().find(|(old, _)| *old == value) {
                Some((_, new)) => *new,
                None => return Err(SchemeError::Untold { value: format!("`{name}`") }),
            },
        };
        match self.builder.ty(value) {
            Some(_) => Ok(self.builder.expr(value)),
            None => Err(SchemeError::AttrValue {
                name: name.to_owned(),
                found: format!("number {} of another graph", value.index()),
                expected: "a value of this graph".to_owned(),
            }),
        }
    }

    /// The value of an `i32` attribute, constant or not.
    ///
    /// # Errors
    /// As [`value`](SchemeContext::value), and [`SchemeError::AttrValue`] for a value that is no `i32`.
    pub fn int_or_value(&self, name: &str, x: IntOrValue) -> Result<Expr<'g>, SchemeError> {
        match x {
            IntOrValue::Int(x) => Ok(self.int(x)),
            IntOrValue::Value(value) => {
                let x = self.value(name, value)?;
                if x.ty().elem == Elem::I32 { Ok(x) } else { Err(self.bad_value(name, x, "an i32 value")) }
            }
        }
    }

    /// The error that the value of attribute `name` is not what was expected.
    pub fn bad_value(&self, name: &str, x: Expr<'g>, expected: impl Into<String>) -> SchemeError {
        let found = format!("{}{}", self.type_text(x.ty()), self.lengths_text(x.ty()));
        SchemeError::AttrValue { name: name.to_owned(), found, expected: expected.into() }
    }

    /// Checks that a value attribute varies over no axis of `axes`.
    ///
    /// # Errors
    /// [`SchemeError::AttrValue`] if it does.
    pub fn free_of(&self, name: &str, x: Expr<'g>, axes: &[Axis]) -> Result<(), SchemeError> {
        match axes.iter().find(|axis| x.ty().axes.contains(**axis)) {
            None => Ok(()),
            Some(axis) => Err(self.bad_value(name, x, format!("a value free of axis `{}`", self.axis_name(*axis)))),
        }
    }

    /// The name of an axis.
    pub fn axis_name(&self, axis: Axis) -> String {
        self.builder.axis_info(axis).map_or_else(|| "?".to_owned(), |info| info.name)
    }

    /// The lengths of a type's axes that have one.
    fn lengths_text(&self, ty: Type) -> String {
        let info = ty.axes.iter().filter_map(|axis| self.builder.axis_info(axis));
        let lengths = info.filter_map(|info| match info.extent {
            Extent::Static(length) => Some(format!("{} = {length}", info.name)),
            Extent::Dynamic => None,
        });
        let lengths: Vec<String> = lengths.collect();
        if lengths.is_empty() { String::new() } else { format!(" ({})", lengths.join(", ")) }
    }

    /// A type as the text form has it.
    fn type_text(&self, ty: Type) -> String {
        let names: Vec<String> = ty.axes.iter().map(|axis| self.axis_name(axis)).collect();
        if names.is_empty() { ty.elem.to_string() } else { format!("{}[{}]", ty.elem, names.join(", ")) }
    }
}
