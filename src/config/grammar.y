%start File
%%
File -> Vec<Item>:
      { Vec::new() }
    | File Item { with($1, $2) }
    ;

Item -> Item:
      Setting { Item::Setting($1) }
    | 'WORD' 'STRING' '{' Settings '}'
      { Item::Block(Block { kind: span($1), name: span($2), settings: $4 }) }
    ;

Settings -> Vec<Setting>:
      { Vec::new() }
    | Settings Setting { with($1, $2) }
    ;

Setting -> Setting:
      'WORD' '=' Value ';' { Setting { name: span($1), value: $3 } }
    ;

Value -> Value:
      'STRING' { Value { span: $span, kind: Kind::String } }
    | 'NUMBER' { Value { span: $span, kind: Kind::Number } }
    | 'WORD' { Value { span: $span, kind: Kind::Word } }
    | '[' Strings ']' { Value { span: $span, kind: Kind::List($2) } }
    | '{' Fields '}' { Value { span: $span, kind: Kind::Fields($2) } }
    ;

Strings -> Vec<Span>:
      { Vec::new() }
    | Strings1 { $1 }
    | Strings1 ',' { $1 }
    ;

Strings1 -> Vec<Span>:
      'STRING' { vec![span($1)] }
    | ',' 'STRING' { vec![span($2)] }
    | Strings1 ',' 'STRING' { with($1, span($3)) }
    ;

Fields -> Vec<(Span, Span)>:
      { Vec::new() }
    | Fields1 { $1 }
    | Fields1 ',' { $1 }
    ;

Fields1 -> Vec<(Span, Span)>:
      Field { vec![$1] }
    | Fields1 ',' Field { with($1, $3) }
    ;

Field -> (Span, Span):
      'STRING' ':' 'STRING' { (span($1), span($3)) }
    ;
%%
use cfgrammar::Span;
use lrlex::DefaultLexeme;

use crate::config::ast::{Block, Item, Kind, Setting, Value};

/// Where a token stands. Without error recovery no token is ever made up, so both are real.
fn span(token: Result<DefaultLexeme<u32>, DefaultLexeme<u32>>) -> Span {
    match token {
        Ok(lexeme) | Err(lexeme) => lexeme.span(),
    }
}

fn with<T>(mut list: Vec<T>, item: T) -> Vec<T> {
    list.push(item);
    list
}
