//! What e-classes are.

use rhumb_ir::{Axis, Base, Pairing, Type};

/// What a class is: a value, or a parameter of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value of a type.
    Value(Type),
    /// An axis.
    Axis(Axis),
    /// A rotary block.
    Block(Pairing, u32),
    /// A base.
    Base(Base),
    /// The absent sink.
    NoSink,
}

impl Kind {
    /// The type, of a value.
    pub(crate) fn ty(self) -> Option<Type> {
        match self {
            Kind::Value(ty) => Some(ty),
            _ => None,
        }
    }

    pub(crate) fn axis(self) -> Option<Axis> {
        match self {
            Kind::Axis(axis) => Some(axis),
            _ => None,
        }
    }
}
