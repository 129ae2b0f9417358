//! Declarations of schemes: what a scheme is called, where it works, its formula, and its attributes, each said once.

use rhumb_ir::Attrs;

use crate::error::SchemeError;
use crate::info::SchemeInfo;

/// What a scheme tells of itself, beside its mathematics. [`scheme!`](crate::scheme!) implements it.
///
/// By hand it is implemented for what a declaration can't say: a scheme that is made of what is known at run time, or one that holds what no
/// attribute can hold.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not declared as a scheme",
    note = "declare it by `scheme! {{ ... }}`, with its name, hooks, formula and attributes"
)]
pub trait Declared: Send + Sync {
    /// What is declared of the scheme.
    fn info(&self) -> &SchemeInfo;

    /// The attributes that the scheme is written with in the text form, which make it again through a registry. Those at their default
    /// may be left out.
    ///
    /// A graph that is built is compiled by the scheme it was given, whatever this tells; what is read from text has nothing else. Values
    /// of the graph that the scheme holds must be among them: a value has another number in the lowered graph, which
    /// [`SchemeContext::value`](crate::SchemeContext::value) knows for these.
    fn attributes(&self) -> Attrs {
        Attrs::new()
    }

    /// The name in the registry and in the text form.
    fn name(&self) -> &str {
        &self.info().name
    }
}

/// A scheme that its attributes make. [`scheme!`](crate::scheme!) implements it.
pub trait FromAttrs: Declared + Sized {
    /// What is declared of all schemes of the type.
    fn declaration() -> &'static SchemeInfo;

    /// The scheme that these attributes make; those of other names are left alone.
    ///
    /// # Errors
    /// [`SchemeError`] for an attribute that is missing, of another type or out of range.
    fn from_attrs(attrs: &Attrs) -> Result<Self, SchemeError>;
}

/// Declares a scheme: a struct whose fields are the attributes of the scheme.
///
/// ```
/// use rhumb_ir::Expr;
/// use rhumb_plugins::{AttrRange, PositionScheme, SchemeContext, SchemeError, scheme};
///
/// scheme! {
///     /// Every `d`-th key near the query.
///     #[derive(Clone, Copy, Debug)]
///     pub struct Every: "every" at Mask = "|i - j| <= w and (i - j) mod d = 0" {
///         /// w: how far the window reaches, in tokens.
///         #[range(0.., "a number of tokens")]
///         window: i32,
///         /// d: the distance between the keys seen.
///         #[range(1..)]
///         step: i32 = 2,
///     }
/// }
///
/// impl PositionScheme for Every {
///     fn mask<'g>(&self, cx: &SchemeContext<'g>) -> Result<Expr<'g>, SchemeError> {
///         let distance = cx.q_index() - cx.k_index();
///         Ok(distance.abs().le(self.window) & (distance % self.step).eq(0))
///     }
/// }
/// ```
///
/// In this order a declaration has:
///
/// - A line of documentation, the scheme's summary; then what else stands above a struct.
/// - The struct, the name in the text form, the [hooks](rhumb_ir::Hook) at which the scheme does something, and its formula there.
/// - For each attribute a line of documentation, and more if there is more to say; `#[range(...)]`, if it takes not all that its type can
///   hold: a range of numbers or an [`AttrRange`](crate::AttrRange), and maybe what such a number is; `#[default("...")]`, if the default
///   is to be told in other words; and the field, whose type is an [`AttrType`](crate::AttrType). Without a default the attribute must be
///   given.
///
/// `#[flatten]` in place of these makes the attributes of a field, itself a declared scheme, those of this scheme too.
///
/// Of this are made:
///
/// - the struct;
/// - [`Declared`](crate::Declared) and [`FromAttrs`](crate::FromAttrs): what a registry, the text form and `rhumb schemes` are told, and the
///   errors about attributes that are unknown, missing, of another type or out of range;
/// - `with_defaults`, private: a function of the attributes that must be given, in their order, which leaves the others at their defaults;
/// - `Default`, where none must be given.
///
/// What is left to say is mathematics: [`PositionScheme`](crate::PositionScheme).
#[macro_export]
macro_rules! scheme {
    (
        #[doc = $summary:literal]
        $(#[$meta:meta])*
        $vis:vis struct $Scheme:ident : $name:literal at $($hook:ident),+ = $formula:literal { $($fields:tt)* }
    ) => {
        $crate::__scheme! {
            { [] [#[doc = $summary] $(#[$meta])*] $vis $Scheme $name [$($hook)+] $formula $summary }
            [] [] []
            $($fields)*
        }
    };
    (
        #[doc = $summary:literal]
        $(#[$meta:meta])*
        $vis:vis struct $Scheme:ident : $name:literal at $($hook:ident),+ = $formula:literal;
    ) => {
        $crate::__scheme! {
            { [;] [#[doc = $summary] $(#[$meta])*] $vis $Scheme $name [$($hook)+] $formula $summary }
            [] [] []
        }
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "a scheme is declared as `/// What it is.`, `pub struct Name: \"name\" at Score = \"formula\" { ... }`"
        );
    };
}

/// Sorts the fields of a declaration: those that must be given, those with a default, those that hold a scheme; then writes all out.
#[doc(hidden)]
#[macro_export]
macro_rules! __scheme {
    (
        $head:tt [$($given:tt)*] [$($set:tt)*] [$($inner:tt)*]
        #[doc = $doc:literal] $(#[doc = $more:literal])*
        #[flatten]
        $vis:vis $field:ident : $ty:ty = $default:expr $(, $($rest:tt)*)?
    ) => {
        $crate::__scheme! {
            $head [$($given)*] [$($set)*] [$($inner)* { [$doc $($more)*] $vis $field [$ty] [$default] }] $($($rest)*)?
        }
    };
    (
        $head:tt [$($given:tt)*] [$($set:tt)*] $inner:tt
        #[doc = $doc:literal] $(#[doc = $more:literal])*
        $(#[range($range:expr $(, $what:literal)?)])?
        $(#[default($text:literal)])?
        $vis:vis $field:ident : $ty:ty = $default:expr $(, $($rest:tt)*)?
    ) => {
        $crate::__scheme! {
            $head
            [$($given)*]
            [$($set)* {
                $doc [$($more)*] [$($range $(, $what)?)?] [$($text)?] $vis $field [$ty] [$default]
            }]
            $inner
            $($($rest)*)?
        }
    };
    (
        $head:tt [$($given:tt)*] $set:tt $inner:tt
        #[doc = $doc:literal] $(#[doc = $more:literal])*
        $(#[range($range:expr $(, $what:literal)?)])?
        $vis:vis $field:ident : $ty:ty $(, $($rest:tt)*)?
    ) => {
        $crate::__scheme! {
            $head
            [$($given)* { $doc [$($more)*] [$($range $(, $what)?)?] $vis $field [$ty] }]
            $set
            $inner
            $($($rest)*)?
        }
    };
    (
        { [$($unit:tt)?] [$($meta:tt)*] $vis:vis $Scheme:ident $name:literal [$($hook:ident)+] $formula:literal $summary:literal }
        [$({
            $given_doc:literal [$($given_more:literal)*] [$($given_range:expr $(, $given_what:literal)?)?]
            $given_vis:vis $given:ident [$given_ty:ty]
        })*]
        [$({
            $set_doc:literal [$($set_more:literal)*] [$($set_range:expr $(, $set_what:literal)?)?] [$($set_text:literal)?]
            $set_vis:vis $set:ident [$set_ty:ty] [$set_default:expr]
        })*]
        [$({ [$($inner_doc:literal)+] $inner_vis:vis $inner:ident [$inner_ty:ty] [$inner_default:expr] })*]
    ) => {
        $crate::__scheme! { @struct [$($unit)?] {
        $($meta)*
        ///
        $(#[doc = ::core::concat!("- `", ::core::stringify!($given), "` (must be given):", $given_doc)])*
        $(#[doc = ::core::concat!(
            "- `", ::core::stringify!($set), "` (default ", $crate::__scheme!(@words [$($set_text)?] $set_default), "):", $set_doc
        )])*
        $(#[doc = ::core::concat!("- the attributes of [`", ::core::stringify!($inner_ty), "`]")])*
        $vis struct $Scheme
        } {
            $(#[doc = $given_doc] $(#[doc = $given_more])* $given_vis $given: $given_ty,)*
            $(#[doc = $set_doc] $(#[doc = $set_more])* $set_vis $set: $set_ty,)*
            $($(#[doc = $inner_doc])+ $inner_vis $inner: $inner_ty,)*
        } }

        impl $Scheme {
            /// The scheme with what must be given, and all else at its default.
            #[allow(dead_code, reason = "schemes may be made of their fields alone")]
            fn with_defaults($($given: $given_ty),*) -> $Scheme {
                $Scheme { $($given,)* $($set: $set_default,)* $($inner: $inner_default,)* }
            }
        }

        $crate::__scheme! { @default $Scheme $($given)* }

        impl $crate::Declared for $Scheme {
            fn info(&self) -> &$crate::SchemeInfo {
                <$Scheme as $crate::FromAttrs>::declaration()
            }

            fn attributes(&self) -> $crate::__macros::Attrs {
                #[allow(unused_mut, reason = "schemes may have no attributes")]
                let mut attrs = $crate::__macros::Attrs::new();
                $($crate::__macros::write(&mut attrs, ::core::stringify!($given), &self.$given, ::core::option::Option::None);)*
                $(
                    let default: $set_ty = $set_default;
                    $crate::__macros::write(
                        &mut attrs,
                        ::core::stringify!($set),
                        &self.$set,
                        ::core::option::Option::Some(default),
                    );
                )*
                $(attrs.extend($crate::Declared::attributes(&self.$inner));)*
                attrs
            }
        }

        impl $crate::FromAttrs for $Scheme {
            fn declaration() -> &'static $crate::SchemeInfo {
                static INFO: $crate::__macros::OnceLock<$crate::SchemeInfo> = $crate::__macros::OnceLock::new();
                INFO.get_or_init(|| {
                    #[allow(unused_mut, reason = "schemes may have no attributes")]
                    let mut info = $crate::__macros::info(
                        $name,
                        &[$($crate::__macros::Hook::$hook),+],
                        $formula,
                        $summary,
                    );
                    $(info.attributes.push($crate::__macros::given::<$given_ty>(
                        ::core::stringify!($given),
                        $given_doc,
                        $crate::AttrRange::all()
                            $(.within($crate::AttrRange::from($given_range)$(.of($given_what))?))?,
                    ));)*
                    $(info.attributes.push($crate::__macros::set::<$set_ty>(
                        ::core::stringify!($set),
                        $set_doc,
                        $crate::AttrRange::all()
                            $(.within($crate::AttrRange::from($set_range)$(.of($set_what))?))?,
                        &$set_default,
                        &[$($set_text)?],
                    ));)*
                    $(info.attributes.extend_from_slice(&<$inner_ty as $crate::FromAttrs>::declaration().attributes);)*
                    info
                })
            }

            #[allow(unused_variables, reason = "schemes may have no attributes")]
            fn from_attrs(attrs: &$crate::__macros::Attrs) -> ::core::result::Result<$Scheme, $crate::SchemeError> {
                let info = <$Scheme as $crate::FromAttrs>::declaration();
                ::core::result::Result::Ok($Scheme {
                    $($given: $crate::__macros::read(info, attrs, ::core::stringify!($given), ::core::option::Option::None)?,)*
                    $($set: $crate::__macros::read(
                        info,
                        attrs,
                        ::core::stringify!($set),
                        ::core::option::Option::Some($set_default),
                    )?,)*
                    $($inner: <$inner_ty as $crate::FromAttrs>::from_attrs(attrs)?,)*
                })
            }
        }
    };
    (@struct [;] { $($head:tt)* } {}) => {
        $($head)*;
    };
    (@struct [] { $($head:tt)* } { $($fields:tt)* }) => {
        $($head)* { $($fields)* }
    };
    (@words [] $default:expr) => {
        ::core::concat!("`", ::core::stringify!($default), "`")
    };
    (@words [$text:literal] $default:expr) => {
        $text
    };
    (@default $Scheme:ident) => {
        impl ::core::default::Default for $Scheme {
            fn default() -> $Scheme {
                $Scheme::with_defaults()
            }
        }
    };
    (@default $Scheme:ident $($given:ident)+) => {};
    ($($other:tt)*) => {
        ::core::compile_error!(
            "an attribute is declared as `/// What it does.`, `#[range(...)]` and `#[default(\"...\")]` where they are \
             wanted, in this order, and `name: Type = default,` or `name: Type,`"
        );
    };
}

/// What declarations are written out with.
pub mod macros {
    pub use std::sync::OnceLock;

    pub use rhumb_ir::{Attrs, Hook};

    use crate::attrs::{AttrInfo, AttrRange, AttrType, attr_text, attr_words, same_bits};
    use crate::error::SchemeError;
    use crate::info::SchemeInfo;

    /// A line of documentation as a phrase.
    fn phrase(doc: &str) -> &str {
        let doc = doc.trim();
        doc.strip_suffix('.').unwrap_or(doc)
    }

    /// What is declared of a scheme, but its attributes.
    pub fn info(name: &str, hooks: &[Hook], formula: &str, summary: &str) -> SchemeInfo {
        SchemeInfo::new(name, hooks, formula, phrase(summary))
    }

    /// What is declared of an attribute that must be given.
    pub fn given<T: AttrType>(name: &str, doc: &str, range: AttrRange) -> AttrInfo {
        AttrInfo { range: range.within(T::range()), ..AttrInfo::new(name, T::kind(), phrase(doc)) }
    }

    /// What is declared of an attribute with a default, and the words for it if they are others than its text.
    pub fn set<T: AttrType>(name: &str, doc: &str, range: AttrRange, default: &T, words: &[&str]) -> AttrInfo {
        let words = words.first().map(|words| (*words).to_owned());
        let default = words.or_else(|| default.write().map(|attr| attr_words(&attr)));
        AttrInfo { default: Some(default.unwrap_or_else(|| "none".to_owned())), ..given::<T>(name, doc, range) }
    }

    /// The attribute of a name, checked; `default` if it is left out.
    ///
    /// # Errors
    /// [`SchemeError`] for an attribute that is missing, of another type or out of range.
    pub fn read<T: AttrType>(
        info: &SchemeInfo,
        attrs: &Attrs,
        name: &str,
        default: Option<T>,
    ) -> Result<T, SchemeError> {
        // What is read is declared, by the same declaration.
        let declared = info.attribute(name);
        let expected = || declared.map(AttrInfo::expected).unwrap_or_default();
        let Some(attr) = attrs.get(name) else {
            return default.ok_or_else(|| SchemeError::AttrMissing { name: name.to_owned(), expected: expected() });
        };
        declared.map_or(Ok(()), |declared| declared.check(attr))?;
        T::read(attr).ok_or_else(|| SchemeError::range(name, attr_text(attr), expected()))
    }

    /// Adds an attribute, unless it is at its default.
    pub fn write<T: AttrType>(attrs: &mut Attrs, name: &str, x: &T, default: Option<T>) {
        let Some(attr) = x.write() else { return };
        let default = default.and_then(|default| default.write());
        if !default.is_some_and(|default| same_bits(&default, &attr)) {
            attrs.insert(name.to_owned(), attr);
        }
    }
}
