//! What `-h` prints.

use super::table::{Spec, VERBS};

/// As in `pizauth show [-u] <account>`.
pub fn synopsis(spec: &Spec) -> String {
    let mut line = format!("pizauth {}", spec.name);
    for opt in spec.options {
        let name = match opt.short {
            Some(letter) => format!("-{letter}"),
            None => format!("--{}", opt.long),
        };
        line.push_str(&format!(" [{name}{}]", opt.shown_value()));
    }
    line + &operands(spec)
}

/// As in ` <account> [<url...>]`.
fn operands(spec: &Spec) -> String {
    let shown = spec
        .operands()
        .map(|operand| match operand.strip_prefix('[') {
            Some(optional) => format!(" [<{}>]", optional.trim_end_matches(']')),
            None => format!(" <{operand}>"),
        });
    shown.collect()
}

/// A row of a table of two columns; a first one that is too long has a line of its own.
fn row(first: &str, width: usize, second: &str) -> String {
    match first.len() <= width {
        true => format!("  {first:<width$} {second}\n"),
        false => format!("  {first}\n  {:<width$} {second}\n", ""),
    }
}

pub(super) fn help(spec: &Spec) -> String {
    let mut text = format!("usage: {}\n\n{}\n", synopsis(spec), spec.summary);
    if !spec.options.is_empty() {
        text.push('\n');
    }
    for opt in spec.options {
        let value = opt.shown_value();
        let names = match opt.short {
            Some(letter) => format!("-{letter}, --{}{value}", opt.long),
            None => format!("    --{}{value}", opt.long),
        };
        text.push_str(&row(&names, 24, opt.summary));
    }
    text
}

/// The commands by what they are for.
const GROUPS: [(&str, &str); 4] = [
    ("Start here", "setup auth test"),
    ("Every day", "show status refresh redirect revoke watch"),
    (
        "For programs and scripts",
        "git-credential tunnel dump restore import",
    ),
    (
        "Administration",
        "server check info register reload restart shutdown",
    ),
];

/// What is shown below them.
const EXAMPLES: &str = "
Examples:
  pizauth setup you@example.com   from your address to a mailbox, step by step
  pizauth show work               what a mail program runs to get a token

`pizauth <command> --help` says more, and so do pizauth(1) and pizauth.conf(5).
";

pub(super) fn overview() -> String {
    let mut text = String::from("usage: pizauth <command>\n");
    for (title, names) in GROUPS {
        text.push_str(&format!("\n{title}:\n"));
        for spec in names
            .split(' ')
            .flat_map(|name| VERBS.iter().find(|spec| spec.name == name))
        {
            let options = match spec.options {
                [] => "",
                _ => " [options]",
            };
            let line = format!("{}{options}{}", spec.name, operands(spec));
            text.push_str(&row(&line, 28, spec.summary));
        }
    }
    text + EXAMPLES
}

pub(super) fn version() -> String {
    format!("pizauth {}\n", env!("CARGO_PKG_VERSION"))
}
