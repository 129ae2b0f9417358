//! Tensors that schemes take, as they are declared on the command line: `table: f32[bucket=32, h] = random`.

use std::str::FromStr;

use rhumb::ir::Tensor;
use rhumb::plugins::AttentionParts;
use rhumb::prelude::*;

use super::error::CliError;
use super::random::Random;
use super::tensor::to_tensor;

/// A tensor that schemes take.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Declared {
    pub(super) name: String,
    elem: Elem,
    /// Names of axes; new ones have a length.
    axes: Vec<(String, Option<u32>)>,
    fill: Fill,
}

/// The elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    Random,
    /// The index along the last axis.
    Index,
    Number(f64),
}

impl FromStr for Declared {
    type Err = String;

    fn from_str(text: &str) -> Result<Declared, String> {
        let form = || "write name: type[axes], as in 'table: f32[bucket=32, h]'".to_owned();
        let (name, rest) = text.split_once(':').ok_or_else(form)?;
        let name = name.trim();
        if !is_name(name) {
            return Err(format!("`{name}` names no tensor; {}", form()));
        }
        let rest = rest.trim();
        // A sign of equality after the axes is not one of theirs.
        let end = rest.rfind(']').map_or(0, |at| at + 1);
        let (ty, fill) = match rest[end..].find('=') {
            Some(at) => (rest[..end + at].trim(), fill(rest[end + at + 1..].trim())?),
            None => (rest, Fill::Random),
        };
        let (elem, axes) = match ty.split_once('[') {
            Some((elem, axes)) => (elem.trim(), axes.strip_suffix(']').ok_or_else(form)?),
            None => (ty, ""),
        };
        let Some(elem) = [Elem::F32, Elem::I32, Elem::Bool].into_iter().find(|known| known.name() == elem) else {
            return Err(format!("`{elem}` is no type; give f32, i32 or bool"));
        };
        let parts = axes.split(',').map(str::trim).filter(|part| !part.is_empty());
        let axes = parts.map(axis).collect::<Result<_, _>>()?;
        Ok(Declared { name: name.to_owned(), elem, axes, fill })
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn axis(text: &str) -> Result<(String, Option<u32>), String> {
    let wrong = || format!("`{text}` is no axis; write a name, and the length of a new one, as in bucket=32");
    let (name, length) = match text.split_once('=') {
        Some((name, length)) => (name.trim(), Some(length.trim().parse().map_err(|_| wrong())?)),
        None => (text, None),
    };
    if is_name(name) { Ok((name.to_owned(), length)) } else { Err(wrong()) }
}

fn fill(text: &str) -> Result<Fill, String> {
    match text {
        "random" => Ok(Fill::Random),
        "index" => Ok(Fill::Index),
        number => match number.parse() {
            Ok(x) => Ok(Fill::Number(x)),
            Err(_) => Err(format!("`{number}` does not tell elements; give random, index or a number")),
        },
    }
}

impl Declared {
    /// Checks that nothing is said of its elements, where these are those of a call.
    pub(super) fn check_open(&self) -> Result<(), CliError> {
        if self.fill == Fill::Random {
            return Ok(());
        }
        let what = "its elements are those of the call, by --inputs or at random: leave out what stands behind `=`";
        Err(CliError::Declared { name: self.name.clone(), what: what.to_owned() })
    }

    /// The tensor, as an input of a graph.
    pub(super) fn input<'g>(&self, parts: &AttentionParts<'g>) -> Result<Expr<'g>, CliError> {
        let builder = parts.builder();
        let wrong = |what: String| CliError::Declared { name: self.name.clone(), what };
        let mut dims: Vec<Axis> = Vec::new();
        for (name, length) in &self.axes {
            let axis = match (builder.axis_named(name), length) {
                (None, Some(length)) => builder.axis_of(name, *length),
                (None, None) => return Err(wrong(format!("axis `{name}` has no length: give it as `{name}=N`"))),
                (Some(axis), None) => axis,
                (Some(axis), Some(length)) if parts.length_of(axis).is_ok_and(|known| known == *length) => axis,
                (Some(_), Some(length)) => {
                    return Err(wrong(format!(
                        "axis `{name}` is there, and not {length} long: leave its length out, or name another"
                    )));
                }
            };
            if dims.contains(&axis) {
                return Err(wrong(format!("axis `{name}` comes twice")));
            }
            dims.push(axis);
        }
        let taken = ["q", "k", "v", "q_pos", "k_pos", "k_scale", "v_scale", "k_zero", "v_zero", "sinks"]
            .contains(&self.name.as_str());
        if taken {
            return Err(wrong("the attention has an input of that name: give it another".to_owned()));
        }
        Ok(parts.input(&self.name, self.elem, dims))
    }

    /// Its elements, in this shape; whole numbers at random are from 0 to `most`.
    pub(super) fn tensor(&self, shape: &[usize], seed: u64, most: usize) -> Result<Tensor, CliError> {
        let too_large = || CliError::TooLarge { what: "input", name: self.name.clone(), shape: shape.to_vec() };
        // As a tensor of the command it is made only where memory holds it.
        let mut made = Random::new(seed, &self.name).tensor(&self.name, self.elem, shape.to_vec(), most)?;
        let last = shape.last().copied().unwrap_or(1).max(1);
        match self.fill {
            Fill::Random => {}
            Fill::Index => made.fill_with(|place| (place % last) as f64),
            Fill::Number(x) => made.fill_with(|_| x),
        }
        to_tensor(&made).ok_or_else(too_large)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read() {
        let read = |text: &str| text.parse::<Declared>();
        let table = read("table: f32[bucket=32, h]").expect("a tensor");
        let axes = vec![("bucket".to_owned(), Some(32)), ("h".to_owned(), None)];
        assert_eq!(table, Declared { name: "table".to_owned(), elem: Elem::F32, axes, fill: Fill::Random });
        assert_eq!(read("x: f32 = 0.5").expect("a scalar").fill, Fill::Number(0.5));
        let tokens = read("tokens : i32[t = 9] = index").expect("a tensor");
        assert_eq!((tokens.fill, tokens.axes), (Fill::Index, vec![("t".to_owned(), Some(9))]));
        for wrong in ["table", "2: f32", "x: f64[h]", "x: f32[h", "x: f32[h=a]", "x: f32[h] = many", "x: f32[=3]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
