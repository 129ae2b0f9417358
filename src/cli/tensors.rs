//! The tensors of a call: from a safetensors file or random, and where outputs go.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use rhumb::dtype::{dtype, reads};
use rhumb::ir::closest;
use rhumb::prelude::*;
use rhumb::runtime::{Interface, OwnedTensor, Port, TileMap};
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, TensorInfo};

use super::CliError;
use super::dims::Lengths;
use super::random::Random;
use super::tensor::zeros;

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
                lengths.learn(interface, port, tensor.shape())?;
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
        Ok((port.name.clone(), zeros("output", &port.name, port.elem, shape)?))
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
        if !reads(*elem, tensor.dtype()) {
            return Err(CliError::TensorType {
                path: path.to_owned(),
                name: name.clone(),
                found: tensor.dtype().to_string(),
                wanted: dtype(*elem).to_string(),
                expected: interface.signature(port),
            });
        }
        let mut own = zeros("input", name, *elem, tensor.shape().to_vec())?;
        debug_assert_eq!(own.bytes(), tensor.data().len(), "the file was checked");
        if own.read_le_bytes(tensor.data()) {
            inputs.insert(name.clone(), own);
        }
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
    tensors.sort_by_key(|(_, tensor)| Reverse(dtype(tensor.elem())));
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let start = end;
        end += tensor.bytes();
        let (dtype, shape) = (dtype(tensor.elem()), tensor.shape().to_vec());
        let info = TensorInfo { dtype, shape, data_offsets: (start, end) };
        ((*name).clone(), info)
    });
    let metadata = Metadata::new(None, infos.collect()).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (_, tensor) in tensors {
        tensor.write_le_bytes(file)?;
    }
    file.flush()
}
