//! rhumb runtime.
