//! The registry of the built-in schemes: schemes know registries, and registries no schemes.

use crate::registry::Registry;
use crate::schemes;

impl Registry {
    /// The built-in schemes.
    pub fn standard() -> Registry {
        Registry::of(schemes::entries())
    }
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::standard()
    }
}
