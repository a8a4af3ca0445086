//! Hooks that write down what they were given.

use std::fs;
use std::path::{Path, PathBuf};

use super::wait;

/// What a variable that isn't set at all is written down as.
pub const UNSET: &str = "(unset)";

/// A file to which hooks append one line per run.
#[derive(Debug)]
pub struct Record {
    file: PathBuf,
}

impl Record {
    /// A record named `name` in `directory`, still empty.
    pub fn new(directory: &Path, name: &str) -> Self {
        Record {
            file: directory.join(name),
        }
    }

    /// A command line for a POSIX shell that appends the values of `variables`, with tabs between
    /// them, as one line. It goes out in one write(2), so that hooks may run side by side.
    pub fn command(&self, variables: &[&str]) -> String {
        let format = vec!["%s"; variables.len()].join("\\t");
        let values: Vec<String> = variables
            .iter()
            .map(|name| format!("\"${{{name}-{UNSET}}}\""))
            .collect();
        let file = self.file.display();
        format!("printf '{format}\\n' {} >>'{file}'", values.join(" "))
    }

    /// The same as the option `name` of pizauth.conf(5).
    pub fn option(&self, name: &str, variables: &[&str]) -> String {
        option(name, &self.command(variables))
    }

    /// The lines until now; one that is being written isn't one yet.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if whole.is_empty() && !text.starts_with('\n') {
            return Vec::new();
        }
        whole.split('\n').map(str::to_owned).collect()
    }

    /// Waits until there are at least `count` lines, and gives them all. It looks again and again:
    /// the writers are the daemon's children, and a file gives no portable event.
    pub fn wait_lines(&self, count: usize) -> Vec<String> {
        let what = format!("line {count} in {}", self.file.display());
        wait::until(&what, || {
            let lines = self.lines();
            (lines.len() >= count).then_some(lines)
        })
    }
}

/// `name = "command";` as in pizauth.conf(5).
pub fn option(name: &str, command: &str) -> String {
    let quoted = command.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{name} = \"{quoted}\";\n")
}
