//! The registry: schemes by name.

use std::fmt;
use std::sync::Arc;

use rhumb_ir::{Attrs, closest};
use thiserror::Error;

use crate::declare::FromAttrs;
use crate::error::{SchemeError, quoted};
use crate::info::SchemeInfo;
use crate::scheme::{PositionScheme, Scheme};

type Factory = Arc<dyn Fn(&Attrs) -> Result<Scheme, SchemeError> + Send + Sync>;

/// A scheme's entry in a registry: what is known of it, and how attributes make it.
#[derive(Clone)]
pub struct Entry {
    info: SchemeInfo,
    make: Factory,
}

impl Entry {
    /// The entry of a declared scheme: `Entry::of::<Alibi>()`.
    pub fn of<S: PositionScheme + FromAttrs + 'static>() -> Entry {
        Entry::new(S::declaration().clone(), S::from_attrs)
    }

    /// An entry by hand: what is known of a scheme, and the function that makes it of attributes. The function is given attributes that
    /// are known to be those of `info`, in their ranges; whether one is missing it has to see itself.
    pub fn new<S, F>(info: SchemeInfo, make: F) -> Entry
    where
        S: PositionScheme + 'static,
        F: Fn(&Attrs) -> Result<S, SchemeError> + Send + Sync + 'static,
    {
        let make = move |attrs: &Attrs| make(attrs).map(Scheme::new);
        Entry { info, make: Arc::new(make) }
    }

    /// What is known of the scheme.
    pub fn info(&self) -> &SchemeInfo {
        &self.info
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Schemes by name: an explicit list that does not change once it is made. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Registry {
    entries: Arc<[Entry]>,
}

/// Why a registry can't make a scheme, or can't be made.
#[derive(Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No scheme of this name.
    Unknown {
        /// The name.
        name: String,
        /// The known name that reads most like it.
        suggestion: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// Two schemes of one name.
    Duplicate {
        /// The name.
        name: String,
    },
    /// A name that the text form can't hold.
    BadName {
        /// The name.
        name: String,
    },
    /// Attributes that do not make the scheme.
    Attrs {
        /// The scheme.
        scheme: String,
        /// What is wrong.
        source: SchemeError,
    },
}

rhumb_ir::display_with_hint!(RegistryError);

impl RegistryError {
    /// What was found, without the hint.
    pub fn finding(&self) -> String {
        match self {
            RegistryError::Unknown { name, .. } => format!("unknown scheme `{name}`"),
            RegistryError::Duplicate { name } => format!("two schemes are named `{name}`"),
            RegistryError::BadName { name } => format!("`{name}` can't name a scheme"),
            RegistryError::Attrs { scheme, source } => format!("scheme `{scheme}`: {}", source.finding()),
        }
    }

    /// What would mend it.
    pub fn hint(&self) -> String {
        match self {
            RegistryError::Unknown { name: _, suggestion: Some(suggestion), known: _ } => {
                format!("did you mean `{suggestion}`? (a scheme of your own has to be registered with the engine)")
            }
            RegistryError::Unknown { name: _, suggestion: None, known } => {
                format!(
                    "known schemes are {}; a scheme of your own has to be registered with the engine",
                    quoted(known)
                )
            }
            RegistryError::Duplicate { .. } => "give each scheme a name of its own".to_owned(),
            RegistryError::BadName { .. } => {
                "use letters, digits and `_`, and start with a letter, as in `my_scheme`".to_owned()
            }
            RegistryError::Attrs { scheme: _, source } => source.hint(),
        }
    }
}

impl Registry {
    /// No schemes.
    pub fn empty() -> Registry {
        Registry { entries: Arc::new([]) }
    }

    /// Schemes whose names are good, and differ.
    pub(crate) fn of(entries: Vec<Entry>) -> Registry {
        Registry { entries: entries.into() }
    }

    /// These schemes and one more.
    ///
    /// # Errors
    /// [`RegistryError::Duplicate`] if the name is taken, [`RegistryError::BadName`] if the text form can't hold it.
    pub fn with(&self, entry: Entry) -> Result<Registry, RegistryError> {
        let name = &entry.info.name;
        let mut chars = name.chars();
        let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
        if !starts || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(RegistryError::BadName { name: name.to_owned() });
        }
        if self.find(name).is_some() {
            return Err(RegistryError::Duplicate { name: name.to_owned() });
        }
        let entries = self.entries.iter().cloned().chain(std::iter::once(entry)).collect();
        Ok(Registry { entries })
    }

    /// What is known of each scheme, in order.
    pub fn schemes(&self) -> impl Iterator<Item = &SchemeInfo> {
        self.entries.iter().map(|entry| &entry.info)
    }

    /// What is known of the scheme of a name.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] with the name that reads most like it.
    pub fn info(&self, name: &str) -> Result<&SchemeInfo, RegistryError> {
        self.find(name).map(|entry| &entry.info).ok_or_else(|| self.unknown(name))
    }

    /// The scheme of a name with these attributes.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], or [`RegistryError::Attrs`] for an attribute that is unknown, missing, of another type or out of range.
    pub fn make(&self, name: &str, attrs: &Attrs) -> Result<Scheme, RegistryError> {
        let Some(entry) = self.find(name) else { return Err(self.unknown(name)) };
        let wrong = |source| RegistryError::Attrs { scheme: name.to_owned(), source };
        entry.info.check(attrs).map_err(wrong)?;
        (entry.make)(attrs).map_err(wrong)
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.info.name == name)
    }

    fn unknown(&self, name: &str) -> RegistryError {
        let known = || self.entries.iter().map(|entry| entry.info.name.as_str());
        RegistryError::Unknown {
            name: name.to_owned(),
            suggestion: closest(name, known()).map(str::to_owned),
            known: known().map(str::to_owned).collect(),
        }
    }
}
