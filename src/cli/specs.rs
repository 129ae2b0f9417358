//! Schemes as the command line specifies them, and the values that they name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use rhumb::ir::{Op, ParseError, ParseFault, Value};
use rhumb::plugins::{AttentionParts, AttrKind, RegistryError, Scheme};
use rhumb::prelude::*;

use super::declared::Declared;
use super::error::CliError;

/// The values of an attention that schemes can name, beside declared tensors.
const SITE: [&str; 7] = ["q", "k", "q_pos", "k_pos", "q_index", "k_index", "length"];

/// The values that schemes can name, by name.
#[derive(Clone, Debug)]
pub(super) struct Values(BTreeMap<String, Value>);

impl Values {
    /// Those of an attention, and declared tensors, which become inputs of its graph.
    pub(super) fn of(parts: &AttentionParts<'_>, declared: &[Declared]) -> Result<Values, CliError> {
        let site = [
            parts.query(),
            parts.key(),
            parts.q_pos(),
            parts.k_pos(),
            parts.q_index(),
            parts.k_index(),
            parts.length(),
        ];
        let site = SITE.into_iter().zip(site).map(|(name, value)| (name.to_owned(), value.value()));
        let mut values: BTreeMap<String, Value> = site.collect();
        for tensor in declared {
            let input = tensor.input(parts)?;
            if values.insert(tensor.name.clone(), input.value()).is_some() {
                let what = "the name is taken: give it another".to_owned();
                return Err(CliError::Declared { name: tensor.name.clone(), what });
            }
        }
        Ok(Values(values))
    }
}

/// The values of the one graph that a command builds, made when the first scheme asks for them.
#[derive(Clone, Debug)]
pub(super) struct Named {
    declared: Vec<Declared>,
    made: Rc<RefCell<Option<Result<Values, CliError>>>>,
}

impl Named {
    pub(super) fn new(declared: &[Declared]) -> Named {
        Named { declared: declared.to_vec(), made: Rc::default() }
    }

    /// The scheme of a specification in the graph of `parts`; none where a tensor is declared wrongly, which [`fault`](Named::fault) tells.
    pub(super) fn scheme(&self, spec: &Spec, parts: &AttentionParts<'_>, registry: &Registry) -> Option<Scheme> {
        let mut made = self.made.borrow_mut();
        let values = made.get_or_insert_with(|| Values::of(parts, &self.declared)).as_ref().ok()?;
        match spec.scheme(values, registry) {
            Ok(scheme) => Some(scheme),
            Err(error) => {
                *made = Some(Err(error));
                None
            }
        }
    }

    /// What was wrong with the values, if the graph asked for any.
    pub(super) fn fault(&self) -> Result<(), CliError> {
        match self.made.take() {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// A scheme as it is specified: a name, and its attributes as the text form has them.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    text: String,
    name: String,
    attrs: Attrs,
    /// The names of values, by the numbers that attributes have of them.
    told: Vec<String>,
    /// All names that values have.
    known: Vec<String>,
}

impl Spec {
    /// Reads a specification. Its attributes may name values of the attention and declared tensors.
    pub(super) fn parse(text: &str, declared: &[Declared]) -> Result<Spec, CliError> {
        let names = SITE.into_iter().chain(declared.iter().map(|tensor| tensor.name.as_str()));
        let mut known: Vec<String> = names.map(str::to_owned).collect();
        known.sort_unstable();
        known.dedup();
        let (name, attrs, told) = parse(text, &known)?;
        Ok(Spec { text: text.to_owned(), name, attrs, told, known })
    }

    /// Whether an attribute is a value of the graph.
    pub(super) fn takes_values(&self) -> bool {
        self.attrs.values().any(|attr| matches!(attr, Attr::Value(_)))
    }

    /// The scheme, with the values of no graph.
    pub(super) fn make(&self, registry: &Registry) -> Result<Scheme, CliError> {
        registry.make(&self.name, &self.attrs).map_err(|source| self.refused(source, registry))
    }

    /// The scheme with the values of a graph.
    pub(super) fn scheme(&self, values: &Values, registry: &Registry) -> Result<Scheme, CliError> {
        let mut attrs = self.attrs.clone();
        for attr in attrs.values_mut() {
            if let Attr::Value(value) = attr {
                // The text that the specification was read in has values of its own.
                let name = self.told.get(value.index()).map_or("?", String::as_str);
                let found = values.0.get(name).copied();
                *value = found.ok_or_else(|| undeclared(&self.text, &format!("%{name}"), &self.known))?;
            }
        }
        registry.make(&self.name, &attrs).map_err(|source| self.refused(source, registry))
    }

    /// Why a scheme was not made: where a tensor is missing, with a declaration that would give it.
    fn refused(&self, source: RegistryError, registry: &Registry) -> CliError {
        let missing = match &source {
            RegistryError::Attrs { source: SchemeError::AttrMissing { name, .. }, .. } => Some(name.clone()),
            _ => None,
        };
        let info = registry.info(&self.name).ok();
        let wanted = missing.and_then(|attr| info?.attribute(&attr).cloned());
        let spec = self.text.clone();
        match wanted {
            Some(attr) if attr.kind == AttrKind::Value => {
                CliError::SchemeTensor { spec, attr: attr.name, summary: attr.doc }
            }
            _ => CliError::Scheme { spec, source: Box::new(source) },
        }
    }
}

fn undeclared(spec: &str, value: &str, known: &[String]) -> CliError {
    let known = known.iter().map(|name| format!("%{name}")).collect();
    CliError::Undeclared { spec: spec.to_owned(), value: value.to_owned(), known }
}

/// Reads a specification with the parser of graphs, as an op of a graph around it: the name and the attributes of a scheme, and the names of
/// values by their number. Attributes may name `values`, and no others.
fn parse(spec: &str, values: &[String]) -> Result<(String, Attrs, Vec<String>), CliError> {
    const BEFORE: &str = "graph spec
axis q = ?
axis k = ?
axis d = 2
%0 = iota q
%1 = iota k
%2 = size k
site @0 { query = q, key = k, dim = d, q_pos = %0, k_pos = %1, q_index = %0, k_index = %1, length = %2 }
";
    // One line, so that a column of the text is a column of the specification.
    let spec = spec.replace(['\n', '\r'], " ");
    let wrong = |column, what| CliError::SchemeSyntax { spec: spec.clone(), column, what };
    let (name, attrs) = spec.split_at(spec.find('{').unwrap_or(spec.len()));
    let (before_attrs, name) = (name.chars().count(), name.trim());
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let what = if name.is_empty() { "there is no scheme".to_owned() } else { format!("`{name}` names no scheme") };
        return Err(wrong(0, what));
    }
    let op = format!("%mask = scheme {name}.mask @0 ");
    let known: String = values.iter().map(|name| format!("%{name} = const 0.0 : f32\n")).collect();
    let text = format!("{BEFORE}{known}{op}{attrs}\noutput \"mask\" = %mask : bool[q, k]\n");
    let graph = Graph::parse(&text).map_err(|ParseError { line, column, fault, .. }| match *fault {
        ParseFault::Unknown { what: "value", name, .. } => undeclared(&spec, &name, values),
        // What is missing at the end of a line is missed on the next.
        _ if line > BEFORE.lines().count() + values.len() + 1 => {
            wrong(spec.chars().count(), "the attributes lack a `}`".to_owned())
        }
        fault => wrong((column + before_attrs).saturating_sub(op.len() + 1), fault.finding()),
    })?;
    let found = graph.nodes().iter().find_map(|node| match &node.op {
        Op::Scheme { scheme, attrs, .. } => Some((scheme.clone(), attrs.clone())),
        _ => None,
    });
    let (name, attrs) = found.unwrap_or_default();
    Ok((name, attrs, graph.value_names()))
}
