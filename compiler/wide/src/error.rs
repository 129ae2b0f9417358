//! Refusals.

use cranelift_codegen::ir::{self, Function, Opcode, Type};
use cranelift_codegen::isa::CallConv;

/// What stood in the way of compiling a function: the printed instruction and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{inst}` is not supported: {reason}")]
pub struct Unsupported {
    /// The instruction as CLIF prints it, or the signature or function name where no one instruction is at fault.
    pub inst: String,
    /// Its operation.
    pub op: Option<Opcode>,
    /// The type that decides how it is compiled.
    pub ty: Option<Type>,
    /// Why.
    pub reason: Reason,
}

/// Why something is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The operation has no lowering here at any type.
    #[error("clif-wide has no lowering for this operation")]
    Operation,
    /// The operation has lowerings, but none for this type.
    #[error("the operation has no lowering for this type")]
    Type,
    /// AVX2 has no instruction for this type or width; AVX-512 has.
    #[error("this needs AVX-512")]
    NeedsAvx512,
    /// AVX512_BF16 alone has an instruction for it.
    #[error("this needs AVX512_BF16")]
    NeedsBf16,
    /// AVX512_VNNI alone has an instruction for it.
    #[error("this needs AVX512_VNNI")]
    NeedsVnni,
    /// A calling convention other than System V and Windows fastcall.
    #[error("the calling convention {0} is not supported")]
    CallConv(CallConv),
    /// A parameter or return value that the calling convention has no register for, or one with a special purpose.
    #[error("the signature has a parameter or return value that cannot be passed")]
    Signature,
    /// Big-endian access.
    #[error("only little-endian memory access is supported")]
    Endianness,
    /// A branch to the entry block.
    #[error("the entry block is the target of a branch")]
    EntryBranch,
    /// More stack than is probed for.
    #[error("the stack frame of {0} bytes is too large")]
    Frame(u64),
    /// Cranelift's verifier refused the function.
    #[error("the function is not valid: {0}")]
    Invalid(String),
    /// regalloc2 refused the machine code.
    #[error("register allocation failed: {0}")]
    Allocation(String),
    /// iced-x86 refused an instruction.
    #[error("encoding failed: {0}")]
    Encoding(String),
}

impl Unsupported {
    pub(crate) fn at(func: &Function, inst: ir::Inst, reason: Reason) -> Self {
        let op = func.dfg.insts[inst].opcode();
        Self {
            inst: func.dfg.display_inst(inst).to_string(),
            op: Some(op),
            ty: Some(func.dfg.ctrl_typevar(inst)).filter(|&ty| ty != ir::types::INVALID),
            reason,
        }
    }

    pub(crate) fn signature(func: &Function, reason: Reason) -> Self {
        Self { inst: func.signature.to_string(), op: None, ty: None, reason }
    }

    pub(crate) fn function(func: &Function, reason: Reason) -> Self {
        Self { inst: func.name.to_string(), op: None, ty: None, reason }
    }
}
