//! Where a picture goes: a file, or the terminal.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::error::CliError;
use super::super::output::print;
use super::picture::Picture;
use super::sizes::Size;
use super::{draw, terminal};

/// Numbers beyond this are not drawn.
const GREATEST: f64 = 1e30;

/// Where a picture goes.
#[derive(Debug, clap::Args)]
pub(super) struct TargetArgs {
    /// The file for the picture, by its name .svg or .png; without it it is drawn into the terminal
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Width and height of the picture in pixels
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "800x500", requires = "output")]
    size: Size,
}

impl TargetArgs {
    /// Draws a picture.
    pub(super) fn show(&self, picture: &Picture) -> Result<(), CliError> {
        check(picture)?;
        let Some(path) = &self.output else { return print(&terminal::text(picture)) };
        let bytes = match extension(path).as_deref() {
            Some("svg") => draw::svg(picture, self.size)?.into_bytes(),
            Some("png") => draw::png(picture, self.size)?,
            _ => return Err(CliError::PlotFormat { path: path.clone() }),
        };
        fs::write(path, bytes).map_err(|source| CliError::Write { path: path.clone(), source })
    }
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// Whether there is something to see.
fn check(picture: &Picture) -> Result<(), CliError> {
    let Some(numbers) = picture.numbers() else { return Ok(()) };
    let finite = || numbers.iter().copied().filter(|x| x.is_finite());
    match finite().find(|x| x.abs() > GREATEST) {
        Some(found) => Err(CliError::PlotNumber { found, most: GREATEST }),
        None if finite().next().is_none() => Err(CliError::PlotNothing { count: numbers.len() }),
        None => Ok(()),
    }
}
