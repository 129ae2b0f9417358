//! Golden vectors: what a scheme computes, in files for other implementations and for later versions of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rhumb_ir::{Attr, Bindings, Hook};
use rhumb_plugins::PositionScheme;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use serde_json::{Map, Value, json};

use super::kernels::Off;
use super::scores::Attended;
use super::shape::{Positions, Trial};
use super::tensors::{Data, Inputs};

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
    dtype: Dtype,
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
    ) -> Case {
        let shape = &trial.shape;
        let mut tensors: Vec<(String, Stored)> = Inputs::of(bindings)
            .tensors()
            .iter()
            .map(|input| (input.name.clone(), stored(&input.shape, &input.data)))
            .collect();
        let dims = shape.query_shape();
        let single = |data: &[f64]| Data::F32(data.iter().map(|x| *x as f32).collect());
        tensors.push(("out".to_owned(), stored(&dims, &single(&attended.out))));
        tensors.push(("lse".to_owned(), stored(&dims[..3], &single(&attended.lse))));
        let positions = if trial.positions == Positions::Given { "" } else { "_indices" };
        let (heads, groups) = (shape.heads, shape.kv_heads);
        let sizes = format!("{heads}on{groups}x{}_{}x{}", shape.head_dim, shape.queries, shape.keys);
        let name = format!("{}_{sizes}{positions}", scheme.name());
        let line = line(&name, trial, scheme, by_formula, off, &tensors);
        Case { name, line, tensors }
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
        .map(|(name, tensor)| (name.clone(), json!({ "shape": tensor.shape, "dtype": dtype(tensor.dtype) })))
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

fn dtype(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        Dtype::F8_E4M3 => "float8_e4m3fn",
        Dtype::I8 => "int8",
        Dtype::I32 => "int32",
        Dtype::U8 => "uint8",
        _ => "float32",
    }
}

fn stored(shape: &[usize], data: &Data) -> Stored {
    let (dtype, bytes) = match data {
        Data::F32(data) => (Dtype::F32, data.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Data::F16(data) => (Dtype::F16, data.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Data::Bf16(data) => (Dtype::BF16, data.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Data::F8e4m3(data) => (Dtype::F8_E4M3, data.iter().map(|x| x.to_bits()).collect()),
        Data::I8(data) => (Dtype::I8, data.iter().map(|x| x.cast_unsigned()).collect()),
        Data::I32(data) => (Dtype::I32, data.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Data::Bool(data) => (Dtype::U8, data.iter().map(|x| u8::from(*x)).collect()),
    };
    Stored { dtype, shape: shape.to_vec(), bytes }
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
        let views = tensors.iter().map(|(name, Stored { dtype, shape, bytes })| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.clone(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(|error| at(&path)(io::Error::other(error)))?;
        serialize_to_file(views, None, &path).map_err(|error| at(&path)(io::Error::other(error)))?;
        lines.retain(|line| line["name"] != name.as_str());
        lines.push(line.clone());
    }
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(&manifest, format!("[\n{}\n]\n", lines.join(",\n"))).map_err(at(&manifest))
}
