//! The language the other way round: what is put into a configuration that is printed.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::{Account, ClientSecret, TokenFormat, TokenSource};
use crate::text::sanitize;

/// A string, quoted. Control characters are the caller's to see to.
pub fn quoted(text: &str) -> String {
    let text = text.replace('\\', r"\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

/// An account as it is understood, presets and defaults included, without its secrets.
pub fn account(account: &Account) -> String {
    let registration = &account.registration;
    let mut text = format!("account {} {{\n", string(&account.name));
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("    {name} = {value};\n"));
        }
    };
    let source = &registration.source;
    match source {
        TokenSource::Person => {}
        TokenSource::ClientCredentials => option("grant", Some(quoted("client_credentials"))),
        TokenSource::JwtBearer { key_file, subject } => {
            option("grant", Some(quoted("jwt_bearer")));
            option("key_file", Some(string(key_file)));
            option("subject", subject.as_deref().map(string));
        }
        // It may hold what isn't for other readers.
        TokenSource::Command(_) => option("// token_cmd", Some("…".into())),
    }
    option("issuer", registration.issuer.as_deref().map(string));
    option("auth_uri", uri(&registration.auth_uri));
    option("token_uri", uri(&registration.token_uri));
    option("device_auth_uri", uri(&account.device_auth_uri));
    option("revocation_uri", uri(&account.revocation_uri));
    let client_id = Some(&registration.client_id).filter(|_| source.has_client_id());
    option("client_id", client_id.map(|id| string(id)));
    let client = &account.client;
    let secret = match &client.secret {
        ClientSecret::None => None,
        ClientSecret::Given(_) => Some("// client_secret"),
        ClientSecret::Command(_) => Some("// client_secret_cmd"),
    };
    if source.has_client_id() {
        option(secret.unwrap_or_default(), secret.map(|_| "…".into()));
        option("client_auth", client.auth.map(|auth| auth.name().into()));
    }
    let scopes = registration.scopes.iter().map(|it| string(it));
    option("scopes", list("[", scopes.collect(), "]"));
    let redirect_uri = account.pasted_redirect.as_deref();
    let redirect_uri = redirect_uri.unwrap_or(registration.redirect_uri.as_str());
    let redirect_uri = source.is_person().then(|| string(redirect_uri));
    option("redirect_uri", redirect_uri);
    option("auth_uri_fields", fields(&registration.auth_uri_fields));
    option("token_uri_fields", fields(&registration.token_uri_fields));
    let headers = client.headers.iter();
    let headers = headers.map(|header| format!("{}: …", string(&header.name)));
    option("// token_uri_headers", list("{ ", headers.collect(), " }"));
    if let Some(file) = &account.token_file {
        option("token_file", Some(string(&file.path)));
        option("token_file_format", Some(word(&file.format).into()));
    }
    let policy = &account.policy;
    let secs = |time: Duration| Some(format!("{}s", time.as_secs()));
    option("notice_before", secs(policy.notice_before));
    option("refresh_at_least", secs(policy.refresh_at_least));
    option("refresh_before_expiry", secs(policy.refresh_before_expiry));
    option("refresh_retry", secs(policy.refresh_retry));
    text + "}\n"
}

/// A string, made safe and quoted.
pub fn string(value: &str) -> String {
    quoted(&sanitize(value))
}

fn uri(uri: &Option<Arc<Url>>) -> Option<String> {
    uri.as_ref().map(|uri| string(uri.as_str()))
}

fn fields(fields: &[(String, String)]) -> Option<String> {
    let pair = |(key, value): &(String, String)| format!("{}: {}", string(key), string(value));
    list("{ ", fields.iter().map(pair).collect(), " }")
}

fn list(open: &str, words: Vec<String>, close: &str) -> Option<String> {
    let list = format!("{open}{}{close}", words.join(", "));
    (!words.is_empty()).then_some(list)
}

fn word(format: &TokenFormat) -> &'static str {
    match format {
        TokenFormat::Raw => "raw",
        TokenFormat::Json => "json",
        TokenFormat::Xoauth2 { .. } => "xoauth2",
    }
}

/// Words as a comment, made safe, in lines of at most `width` characters where the words allow it.
pub fn comment(indent: &str, words: &str, width: usize) -> String {
    let start = format!("{indent}//");
    let mut text = start.clone();
    let mut columns = start.chars().count();
    for (number, word) in sanitize(words).split(' ').enumerate() {
        let length = word.chars().count() + 1;
        columns += length;
        if columns > width && number > 0 {
            text.push('\n');
            text.push_str(&start);
            columns = start.chars().count() + length;
        }
        text.push(' ');
        text.push_str(word);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_ends_where_it_should() {
        assert_eq!(quoted(r#"a "b" \c"#), r#""a \"b\" \\c""#);
    }

    #[test]
    fn comments_are_cut_between_words_and_hold_no_line_of_their_own() {
        let cut = "  // one two\n  // three\n";
        assert_eq!(comment("  ", "one two three", 12), cut);
        assert_eq!(comment("", "toolongbyfar x", 4), "// toolongbyfar\n// x\n");
        let lines = comment("", "a\nclient_id = 1;", 80);
        assert_eq!(lines.lines().count(), 1, "{lines}");
    }
}
