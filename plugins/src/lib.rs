//! rhumb plugins.
