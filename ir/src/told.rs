//! How errors print, one way for all crates: `Display` says what was found and what would mend it, and `Debug`, which is what `main` and
//! `unwrap` show, says the same.

/// Names as what to choose from: `a, b or c`.
#[doc(hidden)]
pub fn one_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, first)) => format!("{} or {last}", first.join(", ")),
        None => String::new(),
    }
}

/// `Debug` of errors whose `Display` says what would mend them.
#[doc(hidden)]
#[macro_export]
macro_rules! debug_as_display {
    ($($error:ty),* $(,)?) => {$(
        impl ::std::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(self, f)
            }
        }
    )*};
}

/// `Display` and `Debug` of errors with a `finding` and a `hint`.
#[doc(hidden)]
#[macro_export]
macro_rules! display_with_hint {
    ($($error:ty),* $(,)?) => {$(
        impl ::std::fmt::Display for $error {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, "{}\n  hint: {}", self.finding(), self.hint())
            }
        }
        $crate::debug_as_display!($error);
    )*};
}
