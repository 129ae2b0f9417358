//! What is declared of a scheme.

use rhumb_ir::{Attrs, Hook, closest};

use crate::attrs::AttrInfo;
use crate::error::SchemeError;

/// What is declared of a scheme. [`scheme!`](crate::scheme!) makes it of the scheme's declaration.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemeInfo {
    /// Its name in the text form.
    pub name: String,
    /// The hooks at which it does something.
    pub hooks: Vec<Hook>,
    /// Its formula.
    pub formula: String,
    /// What it is, in one line.
    pub summary: String,
    /// The attributes it takes.
    pub attributes: Vec<AttrInfo>,
}

impl SchemeInfo {
    /// A scheme without attributes.
    pub fn new(name: &str, hooks: impl Into<Vec<Hook>>, formula: &str, summary: &str) -> SchemeInfo {
        SchemeInfo {
            name: name.to_owned(),
            hooks: hooks.into(),
            formula: formula.to_owned(),
            summary: summary.to_owned(),
            attributes: Vec::new(),
        }
    }

    /// What is declared of the attribute of a name.
    pub fn attribute(&self, name: &str) -> Option<&AttrInfo> {
        self.attributes.iter().find(|attr| attr.name == name)
    }

    /// Checks that the scheme has these attributes, and that each takes what is given. Whether one is missing is told by what makes a scheme
    /// of them.
    ///
    /// # Errors
    /// [`SchemeError::UnknownAttr`], or as [`AttrInfo::check`].
    pub fn check(&self, attrs: &Attrs) -> Result<(), SchemeError> {
        for (name, attr) in attrs {
            let Some(info) = self.attribute(name) else { return Err(self.unknown(name)) };
            info.check(attr)?;
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> SchemeError {
        let known = || self.attributes.iter().map(|attr| attr.name.as_str());
        SchemeError::UnknownAttr {
            name: name.to_owned(),
            suggestion: closest(name, known()).map(str::to_owned),
            known: known().map(str::to_owned).collect(),
        }
    }
}
