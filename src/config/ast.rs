//! What the grammar saw: names and values by their place in the file, not yet looked at.
//!
//! It holds spans and no text, so it copies no secret.

use cfgrammar::Span;

/// One entry of the file.
pub(super) enum Item {
    Setting(Setting),
    Block(Block),
}

/// `name = value;`
pub(super) struct Setting {
    pub(super) name: Span,
    pub(super) value: Value,
}

/// `kind "name" { … }`
pub(super) struct Block {
    pub(super) kind: Span,
    /// With its quotes.
    pub(super) name: Span,
    pub(super) settings: Vec<Setting>,
}

/// The right side of a setting.
pub(super) struct Value {
    pub(super) span: Span,
    pub(super) kind: Kind,
}

/// Which kind of value it is. Strings are spans with their quotes.
pub(super) enum Kind {
    String,
    Number,
    Word,
    List(Vec<Span>),
    Fields(Vec<(Span, Span)>),
}

impl Kind {
    /// The kind as users call it.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::Word => "a bare word",
            Kind::List(_) => "a list",
            Kind::Fields(_) => "fields",
        }
    }
}
