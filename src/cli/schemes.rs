//! `rhumb schemes`.

use std::fmt::Write;

use rhumb::plugins::{AttrInfo, AttrKind};
use rhumb::prelude::*;

use super::error::CliError;
use super::output::print;

/// Lists the position schemes and masks.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One scheme alone
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let registry = Registry::standard();
    let listing: Vec<String> = match &args.name {
        Some(name) => {
            let unknown = |source| CliError::Scheme { spec: name.clone(), source: Box::new(source) };
            vec![describe(registry.info(name).map_err(unknown)?)]
        }
        None => registry.schemes().map(describe).collect(),
    };
    print(&listing.join("\n"))
}

fn describe(info: &SchemeInfo) -> String {
    let SchemeInfo { name, summary, formula, attributes } = info;
    let mut text = format!("{name}: {summary}\n    {formula}\n");
    let name_width = attributes.iter().map(|attr| attr.name.len()).max().unwrap_or(0);
    let kinds: Vec<String> = attributes.iter().map(|attr| kind(attr.kind)).collect();
    let kind_width = kinds.iter().map(String::len).max().unwrap_or(0);
    for (AttrInfo { name, kind: _, default, doc }, kind) in attributes.iter().zip(&kinds) {
        let default = if default.is_empty() { "must be given".to_owned() } else { format!("default {default}") };
        // Writing to a string does not fail.
        let _ = writeln!(text, "    {name:name_width$}  {kind:kind_width$}  {doc} ({default})");
    }
    text
}

/// The kind of an attribute in a word or two.
fn kind(kind: AttrKind) -> String {
    match kind {
        AttrKind::Bool => "bool".to_owned(),
        AttrKind::Int => "int".to_owned(),
        AttrKind::Float => "number".to_owned(),
        AttrKind::Name(names) => names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join("|"),
        AttrKind::List => "list".to_owned(),
        AttrKind::Value => "value".to_owned(),
        AttrKind::IntOrValue => "int|value".to_owned(),
        AttrKind::ListOrValue => "list|value".to_owned(),
        other => other.describe(),
    }
}
