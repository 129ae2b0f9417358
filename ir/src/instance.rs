//! What a scheme op stands for, opaque to the IR.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// The scheme that a scheme op was made from, beside its written form: opaque here, known to whoever lowers the op.
///
/// The written form of an op, its name and attributes, need not say all that a scheme does; the instance is the scheme itself. It goes
/// with the op through every copy of the graph. The text form leaves it out, so that a parsed op has none.
///
/// Two instances are equal if they are one: what is behind them is not compared.
#[derive(Clone)]
pub struct Instance(Arc<dyn Any + Send + Sync>);

impl Instance {
    /// The instance of what is shared.
    pub fn new<T: Any + Send + Sync>(shared: Arc<T>) -> Instance {
        Instance(shared)
    }

    /// What is shared, if it is of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.clone().downcast().ok()
    }
}

impl PartialEq for Instance {
    fn eq(&self, other: &Instance) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instance")
    }
}
