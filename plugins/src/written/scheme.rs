//! A scheme that is made of its text and its attributes.

use std::sync::Arc;

use rhumb_ir::{Attr, Attrs, Expr, Hook};

use super::evaluate::Evaluator;
use super::parse::as_real;
use super::tree::{Attribute, Definition};
use crate::attrs::{AttrKind, same_bits};
use crate::declare::Declared;
use crate::error::SchemeError;
use crate::info::SchemeInfo;
use crate::scheme::{PositionScheme, SchemeContext};

/// A scheme that is written in text, with its attributes: see the [module](crate::written). A [`Registry`](crate::Registry) makes it.
#[derive(Clone, Debug)]
pub struct TextScheme {
    definition: Arc<Definition>,
    /// One for each that is declared.
    values: Vec<Attr>,
}

impl TextScheme {
    /// The scheme with these attributes, which are declared and in their ranges.
    pub(super) fn new(definition: &Arc<Definition>, attrs: &Attrs) -> Result<TextScheme, SchemeError> {
        let declared = definition.info.attributes.iter().zip(&definition.attributes);
        let values = declared.map(|(info, attribute)| {
            let default = if let Attribute::Constant { default } = attribute { default.as_ref() } else { None };
            let value = attrs.get(&info.name).or(default).cloned();
            let missing = || SchemeError::AttrMissing { name: info.name.clone(), expected: info.expected() };
            let value = value.ok_or_else(missing)?;
            Ok(if info.kind == AttrKind::Float { as_real(value) } else { value })
        });
        let values = values.collect::<Result<_, SchemeError>>()?;
        Ok(TextScheme { definition: definition.clone(), values })
    }

    fn hook<'g>(
        &self,
        hook: Hook,
        cx: &SchemeContext<'g>,
        operand: Option<Expr<'g>>,
    ) -> Result<Option<Expr<'g>>, SchemeError> {
        let Some((_, id)) = self.definition.hooks.iter().find(|(said, _)| *said == hook) else { return Ok(None) };
        Evaluator::new(&self.definition, &self.values, cx, operand).expr(*id).map(Some)
    }
}

impl Declared for TextScheme {
    fn info(&self) -> &SchemeInfo {
        &self.definition.info
    }

    fn attributes(&self) -> Attrs {
        let Definition { info, attributes, .. } = &*self.definition;
        let mut attrs = Attrs::new();
        for ((info, attribute), value) in info.attributes.iter().zip(attributes).zip(&self.values) {
            let is_default =
                matches!(attribute, Attribute::Constant { default: Some(default) } if same_bits(default, value));
            if !is_default {
                attrs.insert(info.name.clone(), value.clone());
            }
        }
        attrs
    }
}

impl PositionScheme for TextScheme {
    fn check(&self, cx: &SchemeContext<'_>) -> Result<(), SchemeError> {
        Evaluator::new(&self.definition, &self.values, cx, None).check()
    }

    fn query<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(self.hook(Hook::Query, cx, Some(x))?.unwrap_or(x))
    }

    fn key<'g>(&self, cx: &SchemeContext<'g>, x: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(self.hook(Hook::Key, cx, Some(x))?.unwrap_or(x))
    }

    fn score<'g>(&self, cx: &SchemeContext<'g>, score: Expr<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(self.hook(Hook::Score, cx, Some(score))?.unwrap_or(score))
    }

    fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
        Ok(self.hook(Hook::Mask, cx, None)?.unwrap_or_else(|| cx.builder().bool(true)))
    }
}
