//! The tensors of a call: from a safetensors file or random, and where outputs go.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use rhumb::ir::closest;
use rhumb::prelude::*;
use rhumb::runtime::{Interface, Port, TileMap, bf16, f8e4m3, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use super::CliError;
use super::dims::Lengths;
use super::random::Random;
use super::tensor::{Data, OwnedTensor, list};

/// Every tensor of a call, by name.
#[derive(Debug)]
pub(super) struct Tensors {
    ports: Vec<Port>,
    pub(super) inputs: BTreeMap<String, OwnedTensor>,
    pub(super) outputs: BTreeMap<String, OwnedTensor>,
}

impl Tensors {
    /// Inputs from a file, if there is one, else random ones.
    pub(super) fn of(
        interface: &Interface,
        file: Option<&Path>,
        lengths: Lengths,
        seed: u64,
    ) -> Result<Tensors, CliError> {
        match file {
            Some(path) => Tensors::from_file(interface, path, lengths),
            None => Tensors::random(interface, &lengths, seed),
        }
    }

    /// Inputs from a file; outputs as long as the inputs and `lengths` tell.
    fn from_file(interface: &Interface, path: &Path, mut lengths: Lengths) -> Result<Tensors, CliError> {
        let inputs = read(interface, interface.inputs(), path)?;
        for port in interface.inputs() {
            if let Some(tensor) = inputs.get(&port.name) {
                lengths.learn(interface, port, &tensor.shape)?;
            }
        }
        Ok(Tensors { ports: interface.inputs().to_vec(), inputs, outputs: outputs(interface, &lengths)? })
    }

    /// Random inputs of these lengths.
    pub(super) fn random(interface: &Interface, lengths: &Lengths, seed: u64) -> Result<Tensors, CliError> {
        let most = lengths.longest_dynamic(interface);
        let mut inputs = BTreeMap::new();
        for Port { name, elem, dims } in interface.inputs() {
            let shape = lengths.shape(interface, dims)?;
            inputs.insert(name.clone(), Random::new(seed, name).tensor(name, *elem, shape, most)?);
        }
        Ok(Tensors { ports: interface.inputs().to_vec(), inputs, outputs: outputs(interface, lengths)? })
    }

    /// What the inputs are.
    pub(super) fn input_ports(&self) -> &[Port] {
        &self.ports
    }

    /// Bytes that a call reads and writes at least.
    pub(super) fn bytes(&self) -> usize {
        self.inputs.values().chain(self.outputs.values()).map(OwnedTensor::bytes).sum()
    }

    /// Binds all tensors to a call and runs it.
    pub(super) fn call<'a>(&'a mut self, call: Call<'_, 'a>) -> Result<(), CliError> {
        Ok(self.bind(call)?.run()?)
    }

    /// Binds all tensors to a call, runs it, and tells the key tiles that it visited, if there are any.
    pub(super) fn trace<'a>(&'a mut self, call: Call<'_, 'a>) -> Result<Option<TileMap>, CliError> {
        Ok(self.bind(call)?.trace()?)
    }

    fn bind<'k, 'a>(&'a mut self, mut call: Call<'k, 'a>) -> Result<Call<'k, 'a>, CliError> {
        for (name, tensor) in &self.inputs {
            call = call.input(name, tensor.view()?);
        }
        for (name, tensor) in &mut self.outputs {
            call = call.output(name, tensor.view_mut()?);
        }
        Ok(call)
    }
}

fn outputs(interface: &Interface, lengths: &Lengths) -> Result<BTreeMap<String, OwnedTensor>, CliError> {
    let output = |port: &Port| {
        let shape = lengths.shape(interface, &port.dims)?;
        Ok((port.name.clone(), OwnedTensor::zeros("output", &port.name, port.elem, shape)?))
    };
    interface.outputs().iter().map(output).collect()
}

/// Some inputs of a graph from a safetensors file; other tensors of the file are left alone.
pub(super) fn read(
    interface: &Interface,
    ports: &[Port],
    path: &Path,
) -> Result<BTreeMap<String, OwnedTensor>, CliError> {
    let bytes = fs::read(path).map_err(|source| CliError::Read { what: "tensors", path: path.to_owned(), source })?;
    let file = SafeTensors::deserialize(&bytes).map_err(|source| CliError::Format { path: path.to_owned(), source })?;
    let mut inputs = BTreeMap::new();
    for port @ Port { name, elem, dims: _ } in ports {
        let Ok(tensor) = file.tensor(name) else {
            let mut known: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
            known.sort_unstable();
            return Err(CliError::NoTensor {
                path: path.to_owned(),
                name: name.clone(),
                expected: interface.signature(port),
                suggestion: closest(name, known.iter().map(String::as_str)).map(str::to_owned),
                known,
            });
        };
        let bytes = tensor.data();
        let words = || bytes.chunks_exact(4).filter_map(|chunk| <[u8; 4]>::try_from(chunk).ok());
        let halves = || bytes.chunks_exact(2).filter_map(|chunk| <[u8; 2]>::try_from(chunk).ok());
        let count = bytes.len() / elem.bytes();
        let data = match (elem, tensor.dtype()) {
            (Elem::F32, Dtype::F32) => list(count, words().map(f32::from_le_bytes)).map(Data::F32),
            (Elem::F16, Dtype::F16) => list(count, halves().map(f16::from_le_bytes)).map(Data::F16),
            (Elem::Bf16, Dtype::BF16) => list(count, halves().map(bf16::from_le_bytes)).map(Data::Bf16),
            (Elem::F8e4m3, Dtype::F8_E4M3) => {
                list(count, bytes.iter().map(|x| f8e4m3::from_bits(*x))).map(Data::F8e4m3)
            }
            (Elem::I8, Dtype::I8) => list(count, bytes.iter().map(|x| x.cast_signed())).map(Data::I8),
            (Elem::I32, Dtype::I32) => list(count, words().map(i32::from_le_bytes)).map(Data::I32),
            (Elem::Bool, Dtype::BOOL | Dtype::U8) => {
                list(count, bytes.iter().map(|x| u8::from(*x != 0))).map(Data::Bool)
            }
            (_, found) => {
                return Err(CliError::TensorType {
                    path: path.to_owned(),
                    name: name.clone(),
                    found: found.to_string(),
                    wanted: match elem {
                        Elem::F32 => "F32",
                        Elem::F16 => "F16",
                        Elem::Bf16 => "BF16",
                        Elem::F8e4m3 => "F8_E4M3",
                        Elem::I8 => "I8",
                        Elem::I32 => "I32",
                        Elem::Bool => "BOOL",
                    },
                    expected: interface.signature(port),
                });
            }
        };
        let shape = tensor.shape().to_vec();
        match data {
            Some(data) => inputs.insert(name.clone(), OwnedTensor { shape, data }),
            None => return Err(CliError::TooLarge { what: "input", name: name.clone(), shape }),
        };
    }
    Ok(inputs)
}

/// Writes tensors to a safetensors file, element by element: there is no second copy that memory might not hold.
pub(super) fn write(tensors: &BTreeMap<String, OwnedTensor>, path: &Path) -> Result<(), CliError> {
    let written = File::create(path).and_then(|file| write_to(&mut BufWriter::new(file), tensors));
    written.map_err(|source| CliError::Write { path: path.to_owned(), source })
}

fn write_to(file: &mut impl Write, tensors: &BTreeMap<String, OwnedTensor>) -> io::Result<()> {
    // As the library does: wide elements first, so that all are aligned in the file.
    let mut tensors: Vec<(&String, &OwnedTensor)> = tensors.iter().collect();
    tensors.sort_by_key(|(_, tensor)| Reverse(tensor.dtype()));
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let start = end;
        end += tensor.bytes();
        let info = TensorInfo { dtype: tensor.dtype(), shape: tensor.shape.clone(), data_offsets: (start, end) };
        ((*name).clone(), info)
    });
    let metadata = Metadata::new(None, infos.collect()).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (_, tensor) in tensors {
        tensor.write_to(file)?;
    }
    file.flush()
}
