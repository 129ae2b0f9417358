//! The registry: schemes by name.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhumb_ir::{Attrs, closest};
use thiserror::Error;

use crate::declare::FromAttrs;
use crate::error::{SchemeError, quoted};
use crate::info::SchemeInfo;
use crate::scheme::{PositionScheme, Scheme};
use crate::written::{self, SchemeTextError};

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
    /// A text that declares no schemes.
    Text {
        /// The file, if it is one.
        file: Option<PathBuf>,
        /// What is wrong.
        source: Box<SchemeTextError>,
    },
    /// A file that can't be read.
    File {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Attributes that do not make the scheme.
    Attrs {
        /// The scheme.
        scheme: String,
        /// What is wrong.
        source: SchemeError,
    },
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The report about a text has its own.
            RegistryError::Text { .. } => f.write_str(&self.finding()),
            error => write!(f, "{}\n  hint: {}", error.finding(), error.hint()),
        }
    }
}

rhumb_ir::debug_as_display!(RegistryError);

impl RegistryError {
    /// What was found, without the hint; of a text the whole report, which has it.
    pub fn finding(&self) -> String {
        match self {
            RegistryError::Text { file, source } => located(source, file.as_deref()),
            RegistryError::File { file, reason } => {
                format!("can't read schemes from `{}`: {reason}", file.display())
            }
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
            RegistryError::Text { source, .. } => source.fault.hint(),
            RegistryError::File { .. } => "give a text file in UTF-8 that declares schemes".to_owned(),
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

    /// These schemes and those that a text declares: see [`written`](crate::written).
    ///
    /// # Errors
    /// [`RegistryError::Text`] says where the text is wrong, [`RegistryError::Duplicate`] which name is taken.
    pub fn with_text(&self, text: &str) -> Result<Registry, RegistryError> {
        self.written(text, None)
    }

    /// These schemes and those that a file declares, as text: see [`written`](crate::written).
    ///
    /// # Errors
    /// [`RegistryError::File`] if the file can't be read, or as [`with_text`](Registry::with_text).
    pub fn load(&self, file: impl AsRef<Path>) -> Result<Registry, RegistryError> {
        let file = file.as_ref();
        let unreadable = |source: io::Error| RegistryError::File { file: file.to_owned(), reason: source.to_string() };
        let text = fs::read_to_string(file).map_err(unreadable)?;
        self.written(&text, Some(file))
    }

    fn written(&self, text: &str, file: Option<&Path>) -> Result<Registry, RegistryError> {
        let wrong = |source| RegistryError::Text { file: file.map(Path::to_owned), source: Box::new(source) };
        written::declarations(text).map_err(wrong)?.into_iter().try_fold(self.clone(), |registry, declared| {
            registry.with(Entry::new(declared.info().clone(), move |attrs| declared.make(attrs)))
        })
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

/// The report about a text, with the file that it is about.
fn located(error: &SchemeTextError, file: Option<&Path>) -> String {
    let SchemeTextError { line, column, .. } = error;
    let (report, place) = (error.to_string(), format!("--> line {line}, column {column}"));
    file.map_or_else(
        || report.clone(),
        |file| report.replacen(&place, &format!("--> {}:{line}:{column}", file.display()), 1),
    )
}
