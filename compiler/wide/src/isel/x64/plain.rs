//! Operations that are one instruction: the table has the rest.

use super::context::{Lower, Result};
use crate::isa::x64::mach::Arg;
use crate::isa::x64::table;
use crate::lane::{Lane, Width};
use cranelift_codegen::ir::Value;
use regalloc2::VReg;

impl Lower<'_> {
    /// `op` of two operands of the result's type.
    pub(super) fn binary(&mut self, op: &table::Op, commutes: bool) -> Result<()> {
        let (lane, width) = self.shape(self.result_ty())?;
        let dst = self.result()?;
        let (a, b) = (self.arg(0), self.arg(1));
        self.binary_into(dst, op, lane, width, a, b, commutes)
    }

    #[allow(clippy::too_many_arguments, reason = "an instruction and its operands")]
    pub(super) fn binary_into(
        &mut self,
        dst: VReg,
        op: &table::Op,
        lane: Lane,
        width: Width,
        a: Value,
        b: Value,
        commutes: bool,
    ) -> Result<()> {
        let code = self.code(op, lane, width)?;
        let (a, b) = if commutes && self.is_foldable(a, code, lane) && !self.is_foldable(b, code, lane) {
            (b, a)
        } else {
            (a, b)
        };
        let left = self.reg(a)?;
        let right = self.source(b, code, lane)?;
        self.emit(code, [Arg::Def(dst), Arg::Use(left), right]);
        Ok(())
    }

    /// `op` of one operand, with an immediate or not. Scalar forms merge into their first source, here the operand itself, so that the
    /// result does not wait for whatever the destination held.
    pub(super) fn unary(&mut self, op: &table::Op, imm: Option<i64>) -> Result<()> {
        let (lane, width) = self.shape(self.result_ty())?;
        let code = self.code(op, lane, width)?;
        let dst = self.result()?;
        let mut args = vec![Arg::Def(dst)];
        if width == Width::Scalar {
            let x = self.reg(self.arg(0))?;
            args.extend([Arg::Use(x), Arg::Use(x)]);
        } else {
            args.push(self.source(self.arg(0), code, lane)?);
        }
        args.extend(imm.map(Arg::Imm));
        self.emit(code, args);
        Ok(())
    }

    /// A one-operand vector instruction of the table's row for `lane`.
    pub(super) fn unary_as(&mut self, op: &table::Op, lane: Lane) -> Result<()> {
        let (_, width) = self.shape(self.result_ty())?;
        let code = self.code(op, lane, width)?;
        let dst = self.result()?;
        let source = self.source(self.arg(0), code, lane)?;
        self.emit(code, [Arg::Def(dst), source]);
        Ok(())
    }
}
