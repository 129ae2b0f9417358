//! Why emission fails.

/// Why emission failed.
pub(crate) enum Failure {
    Frame(u64),
    Encoding(String),
}

pub(super) type Result<T> = std::result::Result<T, Failure>;
