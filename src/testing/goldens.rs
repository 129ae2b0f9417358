//! Golden vectors: what a scheme computes, in files for other implementations and for later versions of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rhumb_ir::{Attr, Bindings, Elem, Hook};
use rhumb_plugins::PositionScheme;
use rhumb_runtime::OwnedTensor;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use serde_json::{Map, Value, json};

use super::failure::Finding;
use super::kernels::Off;
use super::scores::Attended;
use super::shape::{Positions, Trial};
use super::tensors::{Inputs, owned};
use crate::dtype::{dtype, numpy_name};

/// What a reference in double precision may be off by: results are stored in single precision.
const STORED: f64 = 2e-6;
/// The least that a kernel is granted.
const KERNEL: f64 = 1e-5;

/// One file: its name, its line of the manifest, its tensors.
pub(super) struct Case {
    name: String,
    line: Value,
    tensors: Vec<(String, Stored)>,
}

/// A tensor as a file has it.
struct Stored {
    elem: Elem,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Case {
    /// What was given to the scheme at a trial, and what attention makes of it by the formula, or by the interpreter. Kernels were `off` by so
    /// much.
    pub(super) fn new(
        trial: &Trial,
        scheme: &dyn PositionScheme,
        by_formula: bool,
        (bindings, attended): (&Bindings, &Attended),
        off: Off,
    ) -> Result<Case, Finding> {
        let shape = &trial.shape;
        let inputs = Inputs::of(bindings)?.into_tensors().into_iter();
        let mut tensors: Vec<(String, Stored)> = inputs.map(|(name, tensor)| (name, stored(&tensor))).collect();
        let dims = shape.query_shape();
        tensors.push(("out".to_owned(), stored(&owned(Elem::F32, &dims, &attended.out)?)));
        tensors.push(("lse".to_owned(), stored(&owned(Elem::F32, &dims[..3], &attended.lse)?)));
        let positions = if trial.positions == Positions::Given { "" } else { "_indices" };
        let (heads, groups) = (shape.heads, shape.kv_heads);
        let sizes = format!("{heads}on{groups}x{}_{}x{}", shape.head_dim, shape.queries, shape.keys);
        let name = format!("{}_{sizes}{positions}", scheme.name());
        let line = line(&name, trial, scheme, by_formula, off, &tensors);
        Ok(Case { name, line, tensors })
    }
}

/// What the manifest tells of a case.
fn line(
    name: &str,
    trial: &Trial,
    scheme: &dyn PositionScheme,
    by_formula: bool,
    off: Off,
    tensors: &[(String, Stored)],
) -> Value {
    let mut params: Map<String, Value> =
        scheme.attributes().iter().map(|(name, attr)| (name.clone(), parameter(attr))).collect();
    params.insert("num_heads".to_owned(), json!(trial.shape.heads));
    let mask = if scheme.hooks().contains(&Hook::Mask) { scheme.name() } else { "none" };
    let told: Map<String, Value> = tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), json!({ "shape": tensor.shape, "dtype": numpy_name(tensor.elem) })))
        .collect();
    json!({
        "name": name,
        "file": format!("{name}.safetensors"),
        "scheme": scheme.name(),
        "params": params,
        "scale": trial.shape.scale(),
        "mask": { "type": mask, "q_offset": trial.shape.first_query() },
        "core": {},
        "source": {
            "kind": if by_formula { "formula" } else { "interpreter" },
            "package": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "object": scheme.info().formula,
        },
        "tensors": told,
        "dtype": "f32 inputs; expected computed in f64, stored f32",
        "tolerance": {
            "f64_pipeline": { "out_abs": STORED, "lse_rel": STORED },
            "f32_kernel_f64_tables": { "out_abs": KERNEL.max(2.0 * off.out), "lse_abs": KERNEL.max(2.0 * off.lse) },
        },
        "native_f32_dev": { "out": off.out, "lse": off.lse },
        "notes": scheme.info().summary,
    })
}

fn parameter(attr: &Attr) -> Value {
    match attr {
        Attr::Bool(x) => json!(x),
        Attr::Int(x) => json!(x),
        Attr::Float(x) => json!(x),
        Attr::Str(x) => json!(x),
        Attr::List(list) => json!(list),
        Attr::Value(_) => json!("a tensor of the file"),
    }
}

fn stored(tensor: &OwnedTensor) -> Stored {
    let mut bytes = Vec::new();
    tensor.write_le_bytes(&mut bytes).expect("memory takes all that is written");
    Stored { elem: tensor.elem(), shape: tensor.shape().to_vec(), bytes }
}

/// Writes the files, and their lines into the manifest of the folder, in place of those of the same names.
pub(super) fn write(folder: &Path, cases: &[Case]) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| (path, error)
    };
    fs::create_dir_all(folder).map_err(at(folder))?;
    let manifest = folder.join("manifest.json");
    let mut lines: Vec<Value> = match fs::read_to_string(&manifest) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| at(&manifest)(error.into()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(at(&manifest)(error)),
    };
    for Case { name, line, tensors } in cases {
        let path = folder.join(format!("{name}.safetensors"));
        let views = tensors.iter().map(|(name, Stored { elem, shape, bytes })| {
            // Truth values are bytes, as NumPy has them here.
            let dtype = if *elem == Elem::Bool { Dtype::U8 } else { dtype(*elem) };
            TensorView::new(dtype, shape.clone(), bytes).map(|view| (name.clone(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| at(&path)(io::Error::other(error)))?;
        serialize_to_file(views, None, &path).map_err(|error| at(&path)(io::Error::other(error)))?;
        lines.retain(|line| line["name"] != name.as_str());
        lines.push(line.clone());
    }
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(&manifest, format!("[\n{}\n]\n", lines.join(",\n"))).map_err(at(&manifest))
}
