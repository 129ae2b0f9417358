//! `rhumb schemes`.

use std::fmt::Write;

use rhumb::plugins::AttrInfo;
use rhumb::prelude::*;

use super::args::PluginArgs;
use super::error::CliError;
use super::output::print;

/// Lists the position schemes and masks.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One scheme alone
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    plugins: PluginArgs,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let registry = args.plugins.registry()?;
    let listing: Vec<String> = match &args.name {
        Some(name) => {
            vec![describe(registry.info(name).map_err(|unknown| CliError::NoScheme(Box::new(unknown)))?)]
        }
        None => registry.schemes().map(describe).collect(),
    };
    print(&listing.join("\n"))
}

fn describe(info: &SchemeInfo) -> String {
    let SchemeInfo { name, hooks, formula, summary, attributes } = info;
    let hooks: Vec<&str> = hooks.iter().map(|hook| hook.name()).collect();
    let mut text = format!("{name}: {summary}\n    {}: {formula}\n", hooks.join(", "));
    let name_width = attributes.iter().map(|attr| attr.name.len()).max().unwrap_or(0);
    let kinds: Vec<String> = attributes.iter().map(|attr| attr.kind.to_string()).collect();
    let kind_width = kinds.iter().map(String::len).max().unwrap_or(0);
    for (AttrInfo { name, kind: _, range, default, doc }, kind) in attributes.iter().zip(&kinds) {
        let default =
            default.as_ref().map_or_else(|| "must be given".to_owned(), |default| format!("default {default}"));
        let bounds = range.bounds();
        let comma = if bounds.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = writeln!(text, "    {name:name_width$}  {kind:kind_width$}  {doc} ({bounds}{comma}{default})");
    }
    text
}
