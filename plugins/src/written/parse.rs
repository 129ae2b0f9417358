//! The parser: schemes, their attributes and their statements.

use std::ops::Bound;
use std::sync::Arc;

use rhumb_ir::source::{Span, shorten};
use rhumb_ir::{Attr, Elem, ElemKind, Hook};

use super::error::{SchemeTextError, SchemeTextFault, unknown};
use super::lex::Token;
use super::parser::{Draft, Fallible, Named, Parser, SCHEME};
use super::tree::{Attribute, AxisSource, Definition, Id, Kind, OwnAxis, Requirement, SiteAxis, TensorAxis};
use crate::attrs::{AttrInfo, AttrKind, AttrRange, AttrType, attr_words};
use crate::info::SchemeInfo;

const ATTRIBUTE: &str = "name: type > 0 = default";
const STATEMENT: &str = "score = score - slope * abs(k_pos - q_pos)";
const AXIS: &str = "axis pair = head_dim / 2";
const REQUIRE: &str = "require head_dim % 2 == 0, \"the head dimension must be even\"";
const TYPE: &str = "the type: `f32`, `i32`, `bool`, `[f32]`, `\"one\" | \"other\"` or `f32[head, axis]`";

/// Reads all schemes of a text.
///
/// # Errors
/// [`SchemeTextError`] tells the first mistake.
pub(super) fn parse(source: &str) -> Result<Vec<Definition>, SchemeTextError> {
    let mut parser = Parser::new(source);
    let shared = Arc::from(source);
    let mut definitions: Vec<Definition> = Vec::new();
    loop {
        let (definition, span) = parser.scheme(&shared).map_err(|fault| parser.locate(fault))?;
        let name = &definition.info.name;
        if definitions.iter().any(|other| other.info.name == *name) {
            let fault = SchemeTextFault::Redefined { what: "scheme", name: name.clone() };
            return Err(parser.locate((span, fault)));
        }
        definitions.push(definition);
        if parser.token == Token::End {
            return Ok(definitions);
        }
    }
}

impl<'s> Parser<'s> {
    /// One scheme, and where its name stands.
    fn scheme(&mut self, source: &Arc<str>) -> Fallible<(Definition, Span)> {
        self.form = SCHEME;
        self.draft = Draft::default();
        let docs = self.docs();
        if !self.eat_word("scheme") {
            return self.unexpected("`scheme`");
        }
        let (name, span) = self.ident("the scheme's name")?;
        let mut info = SchemeInfo::new(name, [], "", docs.trim_end_matches('.'));
        if self.eat("(") {
            self.list(")", |parser| parser.attribute(&mut info))?;
        }
        self.form = SCHEME;
        self.punct("{")?;
        while !self.eat("}") {
            self.statement()?;
        }
        let hooks: Vec<_> = Hook::ALL.into_iter().filter_map(|hook| self.last(hook)).collect();
        if let Some((span, fault)) = self.unread()
            && (!hooks.is_empty() || matches!(fault, SchemeTextFault::Unread { suggestion: Some(_), .. }))
        {
            return Err((span, fault));
        }
        if hooks.is_empty() {
            return Err((span, SchemeTextFault::NoHook { name: name.to_owned() }));
        }
        info.formula = self.formula(&hooks);
        info.hooks = hooks.iter().map(|(hook, _, _)| *hook).collect();
        let draft = std::mem::take(&mut self.draft);
        let definition = Definition {
            info,
            attributes: draft.attributes,
            axes: draft.axes,
            nodes: draft.nodes,
            hooks: hooks.into_iter().map(|(hook, id, _)| (hook, id)).collect(),
            requirements: draft.requirements,
            source: source.clone(),
        };
        Ok((definition, span))
    }

    /// The first paragraph of the documentation, as one phrase.
    fn docs(&mut self) -> String {
        let mut lines = Vec::new();
        while let Token::Doc(line) = self.token {
            lines.push(line);
            self.advance();
        }
        let lines = lines.into_iter().skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    }

    /// What is said last of a hook.
    pub(super) fn last(&self, hook: Hook) -> Option<(Hook, Id, Span)> {
        self.draft.hooks.iter().rev().find(|(said, _, _)| *said == hook).copied()
    }

    /// The expressions of hooks as they are written, on one line.
    fn formula(&self, hooks: &[(Hook, Id, Span)]) -> String {
        let texts: Vec<String> = hooks
            .iter()
            .map(|(hook, _, span)| {
                let lines = self.source[span.start..span.end].lines().map(|line| line.split("//").next().unwrap_or(""));
                let text = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
                if hooks.len() == 1 { text } else { format!("{} = {text}", hook.name()) }
            })
            .collect();
        texts.join("; ")
    }

    fn attribute(&mut self, info: &mut SchemeInfo) -> Fallible<()> {
        self.form = ATTRIBUTE;
        let doc = self.docs();
        let (name, span) = self.ident("an attribute")?;
        let number = self.draft.attributes.len();
        self.punct(":")?;
        // Lengths of a tensor's axes may not read the attribute itself.
        let (attribute, kind) = self.attribute_type(number)?;
        let of = match kind {
            AttrKind::Float => AttrRange::finite(),
            AttrKind::Int => i32::range(),
            AttrKind::List => Vec::<f64>::range(),
            _ => AttrRange::all(),
        };
        let is_of_numbers = matches!(kind, AttrKind::Float | AttrKind::Int | AttrKind::List);
        let mut declared = AttrInfo { range: of, ..AttrInfo::new(name, kind, doc.trim_end_matches('.')) };
        if let Attribute::Constant { .. } = &attribute {
            let length = self.list_length.take();
            declared.range = AttrRange { length, ..declared.range };
        }
        while is_of_numbers && let Some(range) = self.bound()? {
            declared.range = range.within(declared.range);
        }
        let kind = match declared.kind {
            AttrKind::Bool => Kind::Bool,
            AttrKind::Name(_) => Kind::Name,
            AttrKind::List => Kind::List,
            _ if matches!(attribute, Attribute::Tensor { elem: Elem::Bool, .. }) => Kind::Bool,
            _ => Kind::Number,
        };
        self.draft.kinds.push(kind);
        if let AttrKind::Name(names) = &declared.kind {
            self.draft.choices.insert(number, names.clone());
        }
        self.declare("an attribute", (name, span), Named::Attribute(number))?;
        let attribute = match attribute {
            Attribute::Constant { .. } if self.eat("=") => {
                let start = self.span;
                let default = self.default()?;
                let at = |source| (start.to(self.last), SchemeTextFault::Default { source });
                let default = if declared.kind == AttrKind::Float { as_real(default) } else { default };
                declared.check(&default).map_err(at)?;
                declared.default = Some(attr_words(&default));
                Attribute::Constant { default: Some(default) }
            }
            attribute => attribute,
        };
        self.draft.attributes.push(attribute);
        info.attributes.push(declared);
        Ok(())
    }

    /// The type of an attribute.
    fn attribute_type(&mut self, number: usize) -> Fallible<(Attribute, AttrKind)> {
        let constant = |kind| Ok((Attribute::Constant { default: None }, kind));
        match self.token {
            Token::Str(_) => {
                let mut names = Vec::new();
                loop {
                    let span = self.span;
                    let name = self.string("a name in quotes")?.to_owned();
                    if names.contains(&name) {
                        return Err((span, SchemeTextFault::Redefined { what: "name", name }));
                    }
                    names.push(name);
                    if !self.eat("|") {
                        return constant(AttrKind::Name(names));
                    }
                }
            }
            Token::Punct("[") => {
                self.advance();
                if !self.eat_word("f32") {
                    return self.unexpected("`f32`");
                }
                if self.eat(";") {
                    let (length, span) = (self.literal()?, self.last);
                    let Attr::Int(length @ 1..=65_536) = length else {
                        let text = self.source[span.start..span.end].to_owned();
                        return Err((span, SchemeTextFault::BadNumber { text, kind: "length of a list" }));
                    };
                    self.list_length = Some(length as usize);
                }
                self.punct("]")?;
                constant(AttrKind::List)
            }
            Token::Ident(name) => {
                let elems = [("f32", Elem::F32), ("i32", Elem::I32), ("bool", Elem::Bool)];
                let Some((_, elem)) = elems.into_iter().find(|(known, _)| *known == name) else {
                    return Err((self.span, unknown("type", name, &["f32", "i32", "bool", "[f32]"])));
                };
                self.advance();
                if self.eat("[") {
                    return Ok((self.tensor(elem, number)?, AttrKind::Value));
                }
                constant(match elem.kind() {
                    ElemKind::Real => AttrKind::Float,
                    ElemKind::Whole => AttrKind::Int,
                    ElemKind::Truth => AttrKind::Bool,
                })
            }
            _ => self.unexpected(TYPE),
        }
    }

    /// The axes of a tensor, up to the bracket's end.
    fn tensor(&mut self, elem: Elem, number: usize) -> Fallible<Attribute> {
        let mut axes = Vec::new();
        self.list("]", |parser| {
            let (name, span) = parser.ident("an axis")?;
            if let Some((_, axis)) = SiteAxis::ALL.into_iter().find(|(known, _)| *known == name) {
                axes.push(TensorAxis::Site(axis));
                return Ok(());
            }
            let axis = match parser.draft.names.get(name) {
                Some(Named::Axis(axis)) => *axis,
                _ => {
                    let axis = parser.draft.axes.len();
                    parser.declare("an axis", (name, span), Named::Axis(axis))?;
                    let source = AxisSource::Attribute(number);
                    parser.draft.axes.push(OwnAxis { name: name.to_owned(), source });
                    axis
                }
            };
            let length = if parser.eat("=") { Some(parser.length()?) } else { None };
            axes.push(TensorAxis::Own { axis, length });
            Ok(())
        })?;
        Ok(Attribute::Tensor { elem, axes })
    }

    /// The length of an axis.
    fn length(&mut self) -> Fallible<Id> {
        let length = self.expression()?;
        let length = self.want(length, Kind::Number, "the length of an axis")?;
        self.constant(length, "the length of an axis")
    }

    /// A bound of a number, if one follows.
    fn bound(&mut self) -> Fallible<Option<AttrRange>> {
        let Token::Punct(sign @ ("<" | "<=" | ">" | ">=")) = self.token else { return Ok(None) };
        self.advance();
        let x = match self.literal()? {
            Attr::Int(x) => x as f64,
            Attr::Float(x) => x,
            _ => return self.unexpected("a number"),
        };
        let mut range = AttrRange::all();
        match sign {
            "<" => range.most = Bound::Excluded(x),
            "<=" => range.most = Bound::Included(x),
            ">" => range.least = Bound::Excluded(x),
            _ => range.least = Bound::Included(x),
        }
        Ok(Some(range))
    }

    /// A default: a number, `true`, `false`, a name in quotes or a list.
    fn default(&mut self) -> Fallible<Attr> {
        match self.token {
            Token::Str(name) => {
                self.advance();
                Ok(Attr::Str(name.to_owned()))
            }
            Token::Ident(word @ ("true" | "false")) => {
                self.advance();
                Ok(Attr::Bool(word == "true"))
            }
            Token::Punct("[") => {
                self.advance();
                let mut list = Vec::new();
                self.list("]", |parser| {
                    list.push(match parser.literal()? {
                        Attr::Int(x) => x as f64,
                        Attr::Float(x) => x,
                        _ => return parser.unexpected("a number"),
                    });
                    Ok(())
                })?;
                Ok(Attr::List(list))
            }
            _ => self.literal(),
        }
    }

    /// A number with its sign.
    fn literal(&mut self) -> Fallible<Attr> {
        let start = self.span;
        let sign = if self.eat("-") { -1.0 } else { 1.0 };
        let Token::Number(text) = self.token else { return self.unexpected("a number") };
        let (x, elem) = number(text).map_err(|fault| (start.to(self.span), fault))?;
        self.advance();
        Ok(if elem == Elem::I32 { Attr::Int((sign * x) as i64) } else { Attr::Float(sign * x) })
    }

    fn statement(&mut self) -> Fallible<()> {
        self.form = STATEMENT;
        match self.token {
            Token::Ident("axis") => self.axis(),
            Token::Ident("require") => self.require(),
            Token::Ident(name) => {
                let span = self.span;
                self.advance();
                self.punct("=")?;
                let start = self.span;
                let id = self.expression()?;
                match Hook::ALL.into_iter().find(|hook| hook.name() == name) {
                    Some(hook) => self.hook(hook, id, start.to(self.last)),
                    None => {
                        self.draft.unread.insert(name, span);
                        self.declare("a value", (name, span), Named::Value(id))
                    }
                }
            }
            _ => self.unexpected("`query = ...`, `key = ...`, `score = ...`, `mask = ...`, `axis`, `require` or `}`"),
        }
    }

    fn hook(&mut self, hook: Hook, id: Id, span: Span) -> Fallible<()> {
        let (kind, what) = match hook {
            Hook::Mask => (Kind::Bool, "the mask"),
            Hook::Query => (Kind::Number, "the query"),
            Hook::Key => (Kind::Number, "the key"),
            Hook::Score => (Kind::Number, "the score"),
        };
        self.want(id, kind, what)?;
        if let Some(read) = self.of(id).reads
            && read != hook
        {
            let reader = what.to_owned();
            return Err((span, SchemeTextFault::Reads { reader, operand: read.name() }));
        }
        self.draft.hooks.push((hook, id, span));
        Ok(())
    }

    fn axis(&mut self) -> Fallible<()> {
        self.form = AXIS;
        self.advance();
        let (name, span) = self.ident("the axis's name")?;
        self.punct("=")?;
        let length = self.length()?;
        let axis = self.draft.axes.len();
        self.declare("an axis", (name, span), Named::Axis(axis))?;
        self.draft.axes.push(OwnAxis { name: name.to_owned(), source: AxisSource::Declared(length) });
        Ok(())
    }

    fn require(&mut self) -> Fallible<()> {
        self.form = REQUIRE;
        self.advance();
        let condition = self.expression()?;
        let condition = self.want(condition, Kind::Bool, "`require`")?;
        let condition = self.constant(condition, "what is required")?;
        self.punct(",")?;
        let message = self.string("what is wrong otherwise, in quotes")?.to_owned();
        self.draft.requirements.push(Requirement { condition, message });
        Ok(())
    }
}

/// An attribute of a real number, given as an integer or not.
pub(super) fn as_real(attr: Attr) -> Attr {
    if let Attr::Int(x) = attr { Attr::Float(x as f64) } else { attr }
}

/// The number that a token stands for: an integer without a point or exponent.
pub(super) fn number(text: &str) -> Result<(f64, Elem), SchemeTextFault> {
    let bad = |kind| SchemeTextFault::BadNumber { text: shorten(text), kind };
    if text.chars().all(|c| c.is_ascii_digit()) {
        return text.parse::<i32>().map(|x| (f64::from(x), Elem::I32)).map_err(|_| bad("integer"));
    }
    let x = text.parse().ok().filter(|x: &f64| x.is_finite()).ok_or_else(|| bad("number"))?;
    Ok((x, Elem::F32))
}
