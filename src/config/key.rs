//! Where a client's private key comes from: files that a command prints, as it does a secret.

use super::{error::ConfigError, section::Section, source::TokenSource};

/// Prints the files, unless others may read the key, which is the first. It holds no single quote.
const PRINT: &str = "[ -z \"$(find -L \"$1\" -perm -004 2>/dev/null)\" ] || \
    { echo \"others may read $1; make it private with chmod go= \" >&2; exit 1; }; exec cat -- \"$@\"";

/// The command that prints what `key_file`, or `client_key` and `client_certificate`, name.
pub(super) fn command(
    section: &Section,
    source: &TokenSource,
) -> Result<Option<String>, ConfigError> {
    let name = match source {
        TokenSource::JwtBearer { .. } => "key_file",
        _ => "client_key",
    };
    let mut command = format!("exec /bin/sh -c '{PRINT}' {name}");
    let (key, certificate) = (section.file(name)?, section.file("client_certificate")?);
    if let (None, Some(certificate)) = (&key, &certificate) {
        let what = "`client_certificate` needs a `client_key`";
        return Err(section.source.error(certificate.span, what));
    }
    let Some(key) = key else { return Ok(None) };
    let others = ["client_secret", "client_secret_cmd", "client_auth"];
    if let Some(other) = others.into_iter().find(|it| section.value(it).is_some()) {
        let what = format!("`{other}` and `{name}` can't both be set");
        return Err(section.source.error(key.span, what));
    }
    for file in [Some(key), certificate].into_iter().flatten() {
        let (home, path) = match file.value.strip_prefix("~/") {
            Some(path) => ("~/", path),
            None => ("", &*file.value),
        };
        // For the shell, a single quote within quotes.
        let path = path.replace('\'', r"'\''");
        command.push_str(&format!(" {home}'{path}'"));
    }
    Ok(Some(command))
}
