//! Registering a client (RFC 7591): what to ask for, what the answer means, and the account that
//! it makes.

use serde_json::{Value, json};
use url::Url;

use super::{
    device,
    message::{MAX_BODY_BYTES, Outcome, Reply, authority},
    metadata::Metadata,
    reply::ProviderError,
};
use crate::{
    config::{comment, quoted},
    secret::Secret,
    text::sanitize,
};

/// What the provider calls us where it asks the user.
const CLIENT_NAME: &str = "pizauth";

/// Where the browser may be sent back to, in the order in which to try: the loopback by number, as
/// RFC 8252, 8.3 recommends, and by name; and for providers that want neither, a scheme of our own
/// (7.1), the domain backwards that only this machine has (RFC 6761, 6.3).
pub const REDIRECTS: [&str; 3] = [
    "http://127.0.0.1/",
    "http://localhost/",
    "localhost.pizauth:/callback",
];

/// How long a comment's lines are at most, in characters.
const COMMENT_COLUMNS: usize = 78;

/// What stands before the registration access token in a block's comments.
pub const TOKEN: &str = "// with the token ";

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// One of [`REDIRECTS`].
    pub redirect_uri: &'a str,
    /// The scopes, as given.
    pub scopes: &'a [String],
    /// Device codes, too.
    pub device: bool,
}

/// A client that the provider has registered (RFC 7591, 3.2.1).
#[derive(Debug, PartialEq, Eq)]
pub struct Registered {
    /// Printable.
    pub client_id: String,
    /// Printable; not every provider registers clients without.
    pub client_secret: Option<Secret>,
    /// The secret is good until then, in seconds since 1970.
    pub secret_expires: Option<u64>,
    /// How the secret is to be sent, in the words of the RFC.
    pub auth_method: Option<String>,
    /// The scopes that the client may ask for, when the provider says.
    pub scopes: Option<Vec<String>>,
    /// Where the registration can be changed and ended (RFC 7592), and the token for that.
    pub management: Option<(String, Option<Secret>)>,
}

/// Why there is no client.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The provider doesn't want this redirect: another may do.
    Redirect(String),
    /// It doesn't want something else of the client: less may do.
    Metadata(String),
    /// It wants an initial access token, or a better one.
    Token(String),
    /// It refuses.
    Other(String),
    /// It may come to its senses.
    Passing(String),
}

/// The client's metadata (RFC 7591, 2): a public client, on a user's machine.
pub fn request(metadata: &Metadata, wanted: &Wanted) -> String {
    let known = metadata.grant_types.as_deref();
    let refresh = known.is_none_or(|known| known.iter().any(|it| it == "refresh_token"));
    let mut grant_types = vec!["authorization_code"];
    grant_types.extend(refresh.then_some("refresh_token"));
    grant_types.extend(wanted.device.then_some(device::GRANT));
    let mut client = json!({
        "client_name": CLIENT_NAME,
        "application_type": "native",
        "redirect_uris": [wanted.redirect_uri],
        "grant_types": grant_types,
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    if let (false, Some(client)) = (wanted.scopes.is_empty(), client.as_object_mut()) {
        client.insert("scope".into(), wanted.scopes.join(" ").into());
    }
    client.to_string()
}

/// Whether the provider lets clients have device codes.
pub fn offers_device_codes(metadata: &Metadata) -> bool {
    let known = metadata.grant_types.as_deref();
    metadata.device_authorization_endpoint.is_some()
        && known.is_none_or(|known| known.iter().any(|it| it == device::GRANT))
}

/// Reads the answer of `endpoint` (RFC 7591, 3.2).
///
/// # Errors
/// Why there is no client.
pub fn judge(endpoint: &Url, outcome: &Outcome) -> Result<Registered, Refused> {
    let host = authority(endpoint);
    let reply = outcome.reply(&host).map_err(Refused::Passing)?;
    match reply.status {
        200..=299 => read(&reply.body).map_err(|why| {
            let text = format!("{host} registered a client, but its answer {why}");
            Refused::Other(text)
        }),
        status => Err(refused(&host, status, reply)),
    }
}

fn refused(host: &str, status: u16, reply: &Reply) -> Refused {
    let error = ProviderError::of(reply);
    let words = error
        .as_ref()
        .map(|error| format!(": {}", error.sentence()));
    let text = format!("{host} answered {status}{}", words.unwrap_or_default());
    let (code, description) = error.map_or_else(Default::default, |it| (it.code, it.description));
    // Not every provider uses the error code that there is for it.
    let of_redirect = description.is_some_and(|it| it.to_ascii_lowercase().contains("redirect"));
    match (status, code.as_str()) {
        (401, _) | (403, "invalid_token" | "insufficient_scope" | "access_denied" | "") => {
            Refused::Token(text)
        }
        (_, "invalid_redirect_uri") => Refused::Redirect(text),
        (_, "invalid_client_metadata" | "invalid_request") if of_redirect => {
            Refused::Redirect(text)
        }
        (_, "invalid_client_metadata") => Refused::Metadata(text),
        (408 | 425 | 429 | 500..=599, _) => Refused::Passing(text),
        _ => Refused::Other(text),
    }
}

fn read(body: &[u8]) -> Result<Registered, &'static str> {
    if body.len() > MAX_BODY_BYTES {
        return Err("is longer than 1 MiB");
    }
    let members: Value = serde_json::from_slice(body).map_err(|_| "is no JSON object")?;
    let text = |name: &str| {
        let text = members.get(name)?.as_str()?;
        (!text.is_empty()).then_some(text)
    };
    // What it says goes into a file.
    let printable = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let client_id = text("client_id").filter(|id| printable(id));
    let secret = text("client_secret");
    if secret.is_some_and(|secret| !printable(secret)) {
        return Err("has a client_secret that can't be written down");
    }
    let number = |name: &str| members.get(name).and_then(Value::as_u64);
    let safe = |name: &str| text(name).filter(|text| printable(text));
    let token = safe("registration_access_token").map(|token| Secret::new(token.to_owned()));
    Ok(Registered {
        client_id: client_id.ok_or("has no usable client_id")?.to_owned(),
        client_secret: secret.map(|secret| Secret::new(secret.to_owned())),
        secret_expires: number("client_secret_expires_at").filter(|at| *at > 0),
        auth_method: safe("token_endpoint_auth_method").map(str::to_owned),
        scopes: safe("scope").map(|list| list.split(' ').map(str::to_owned).collect()),
        management: safe("registration_client_uri").map(|uri| (uri.to_owned(), token)),
    })
}

/// The account as pizauth.conf(5) has it, with comments. It holds the client's secrets, if there
/// are any.
pub fn block(name: &str, metadata: &Metadata, wanted: &Wanted, client: &Registered) -> Secret {
    let issuer = &metadata.issuer;
    let mut text = format!("// Registered at {}.\n", sanitize(issuer));
    if let Some((uri, token)) = &client.management {
        text += &format!("// To change or end the registration (RFC 7592): {uri}\n");
        if let Some(token) = token {
            text += &format!("{TOKEN}{}\n", token.expose());
        }
    }
    text += &format!("account {} {{\n", quoted(name));
    text += &format!("    issuer = {};\n", quoted(issuer));
    text += &format!("    client_id = {};\n", quoted(&client.client_id));
    text += &secret(client);
    text += &scopes(metadata, wanted, client);
    if !wanted.redirect_uri.starts_with("http") {
        text += "\n    // No program listens there: paste the address into `pizauth redirect`, or see\n    \
                 // examples/desktop for a handler of its scheme.\n";
    }
    text += &format!("    redirect_uri = {};\n}}\n", quoted(wanted.redirect_uri));
    Secret::new(text)
}

/// The client secret, if there is one, and how it is to be sent.
fn secret(client: &Registered) -> String {
    let Some(secret) = &client.client_secret else {
        return String::new();
    };
    let until = client.secret_expires;
    let until = until.map(|at| format!("    // Good until {at}, in seconds since 1970.\n"));
    let until = until.unwrap_or_default();
    let secret = quoted(secret.expose());
    let auth = match client.auth_method.as_deref() {
        // The provider gave one, but doesn't take it.
        Some("none") => {
            return format!("{until}    // It isn't to be sent: client_secret = {secret};\n");
        }
        Some("client_secret_basic") => "    client_auth = basic;\n",
        Some("client_secret_post") => "    client_auth = body;\n",
        Some(_) | None => "",
    };
    format!("{until}    client_secret = {secret};\n{auth}")
}

fn scopes(metadata: &Metadata, wanted: &Wanted, client: &Registered) -> String {
    let scopes = match (wanted.scopes, &client.scopes) {
        ([], Some(granted)) => granted,
        (asked, _) => asked,
    };
    let mut text = metadata
        .listed_scopes()
        .map_or(String::new(), |it| remark(&it));
    let list: Vec<String> = scopes.iter().map(|scope| quoted(scope)).collect();
    text += &if list.is_empty() {
        "    // scopes = [\"…\"];\n".to_owned()
    } else {
        format!("    scopes = [{}];\n", list.join(", "))
    };
    let has = |name: &str| scopes.iter().any(|scope| scope == name);
    if has("openid") && has("offline_access") {
        // OpenID Connect Core 1.0, 11.
        text += &remark("Without this, there is no refresh token.");
        text += "    auth_uri_fields = { \"prompt\": \"consent\" };\n";
    }
    text
}

/// A comment inside the account, below an empty line.
fn remark(words: &str) -> String {
    format!("\n{}", comment("    ", words, COMMENT_COLUMNS))
}

#[cfg(test)]
mod tests;
