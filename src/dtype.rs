//! Element types as tensor files name them.

use rhumb_ir::Elem;
use safetensors::Dtype;

/// The type of a tensor's elements in a file of safetensors.
pub fn dtype(elem: Elem) -> Dtype {
    match elem {
        Elem::F32 => Dtype::F32,
        Elem::F16 => Dtype::F16,
        Elem::Bf16 => Dtype::BF16,
        Elem::F8e4m3 => Dtype::F8_E4M3,
        Elem::I8 => Dtype::I8,
        Elem::I32 => Dtype::I32,
        Elem::Bool => Dtype::BOOL,
    }
}

/// Its name in NumPy; truth values are stored as bytes.
pub fn numpy_name(elem: Elem) -> &'static str {
    match elem {
        Elem::F32 => "float32",
        Elem::F16 => "float16",
        Elem::Bf16 => "bfloat16",
        Elem::F8e4m3 => "float8_e4m3fn",
        Elem::I8 => "int8",
        Elem::I32 => "int32",
        Elem::Bool => "uint8",
    }
}

/// Whether tensors of an element type can be made of one that a file has: truth values of bytes too.
pub fn reads(elem: Elem, found: Dtype) -> bool {
    found == dtype(elem) || elem == Elem::Bool && found == Dtype::U8
}
