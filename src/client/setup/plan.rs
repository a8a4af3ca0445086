//! An account block, as text: what is known, and what the user has to fill in.

use std::fmt::Write;

use crate::mail::{Server, Tls};
use crate::providers::{Provider, Purpose, SecretUse};
use crate::{config, text::sanitize};

/// What stands where only the user knows.
pub(super) const CLIENT_ID: &str = "your client id";
const CLIENT_SECRET: &str = "your client secret";

/// The user, when none was given.
pub(super) const NOBODY: &str = "you@example.com";

/// How wide a comment may be, in characters.
const WIDTH: usize = 80;

/// Everything that an account block and the mail programs need.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The account's name.
    pub account: String,
    /// What it is, for people.
    pub title: String,
    /// Whose mailbox, if that was given.
    pub user: Option<String>,
    pub endpoints: Endpoints,
    /// With what each is for.
    pub scopes: Vec<(String, &'static str)>,
    pub redirect_uri: &'static str,
    pub secret: Option<SecretUse>,
    /// About the client id, in lines; indented ones are commands.
    pub client_id: Vec<String>,
    /// Paragraphs about the rest.
    pub remarks: Vec<String>,
    pub imap: Option<Server>,
    pub pop3: Option<Server>,
    pub smtp: Option<Server>,
    pub mechanisms: Option<&'static str>,
    /// The server for git.
    pub git: Option<&'static str>,
}

/// Where the provider is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Endpoints {
    /// The table has them, and all the rest, by this name.
    Preset(&'static str),
    /// It says so itself (RFC 8414).
    Issuer(String),
    /// Here.
    At { auth_uri: String, token_uri: String },
}

impl Default for Endpoints {
    fn default() -> Self {
        Endpoints::Issuer(String::new())
    }
}

impl Plan {
    /// For an account with a provider of the table.
    pub(super) fn of(provider: &Provider, user: Option<&str>) -> Self {
        let server = |url: Option<&str>| Server::parse(url?).ok();
        let owned = |lines: &[&str]| {
            if lines.is_empty() {
                Vec::new()
            } else {
                vec![lines.join(" ")]
            }
        };
        let uses_mail = provider.imap.is_some();
        Plan {
            account: provider.name.into(),
            title: provider.title.into(),
            user: user.map(str::to_owned),
            endpoints: Endpoints::Preset(provider.name),
            scopes: Vec::new(),
            redirect_uri: provider.redirect_uri,
            secret: Some(provider.secret),
            client_id: provider
                .client_id
                .iter()
                .map(|it| (*it).to_owned())
                .collect(),
            remarks: owned(provider.remarks),
            imap: server(provider.imap),
            pop3: server(provider.pop3),
            smtp: server(provider.smtp),
            mechanisms: uses_mail.then_some(if provider.oauthbearer {
                "XOAUTH2 and OAUTHBEARER"
            } else {
                "XOAUTH2"
            }),
            git: provider.git,
        }
    }

    /// The configuration, all of it valid in pizauth.conf(5). `file` is where it belongs.
    pub(super) fn config(&self, file: &str) -> String {
        let mut text = String::new();
        self.introduction(&mut text, file);
        let _ = writeln!(text, "\naccount {} {{", quoted(&self.account));
        self.endpoints(&mut text);
        self.client(&mut text);
        self.request(&mut text);
        text.push_str("}\n");
        text
    }

    fn introduction(&self, text: &mut String, file: &str) {
        let whose = match &self.user {
            Some(user) => format!("{}, for {user}.", self.title),
            None => format!("{}.", self.title),
        };
        comment(text, "", &whose);
        comment(text, "", &format!("This belongs into {file}."));
        text.push_str("//\n");
        let what = "Client id: what the provider knows a program by. pizauth comes with none, so you need \
                    one of your own.";
        let is_command = |line: &&String| line.starts_with(' ');
        let lines = self.client_id.iter();
        let words: Vec<&str> = lines
            .clone()
            .filter(|it| !is_command(it))
            .map(String::as_str)
            .collect();
        comment(text, "", &format!("{what} {}", words.join(" ")));
        for command in lines.filter(is_command) {
            let _ = writeln!(text, "//\n//   {}", sanitize(command));
        }
        for remark in &self.remarks {
            text.push_str("//\n");
            comment(text, "", remark);
        }
        self.servers(text);
        text.push_str("//\n");
        let account = &self.account;
        let trial = if self.imap.is_some() || self.smtp.is_some() {
            format!(", and `pizauth test {account}` tries the mail servers")
        } else {
            String::new()
        };
        let then = format!(
            "Then `pizauth check`, `pizauth server` (or, if it is running, `pizauth reload`) and \
             `pizauth auth {account}`{trial}."
        );
        comment(text, "", &then);
    }

    fn servers(&self, text: &mut String) {
        let servers = [
            ("IMAP: ", &self.imap),
            ("POP:  ", &self.pop3),
            ("SMTP: ", &self.smtp),
        ];
        if servers.iter().any(|(_, server)| server.is_some()) {
            text.push_str("//\n");
        }
        for (name, server) in servers {
            if let Some(server) = server {
                let tls = match server.tls {
                    Tls::AtOnce => "",
                    Tls::OnDemand => " with STARTTLS",
                };
                let _ = writeln!(text, "// {name}{}, port {}{tls}", server.host, server.port);
            }
        }
        if let Some(mechanisms) = self.mechanisms {
            let _ = writeln!(text, "// SASL: {mechanisms}");
        }
    }

    fn endpoints(&self, text: &mut String) {
        match &self.endpoints {
            Endpoints::Preset(name) => option(text, INDENT, "provider", &quoted(name)),
            Endpoints::Issuer(issuer) => {
                comment(
                    text,
                    INDENT,
                    "It says itself where its endpoints are (RFC 8414).",
                );
                option(text, INDENT, "issuer", &quoted(issuer));
            }
            Endpoints::At {
                auth_uri,
                token_uri,
            } => {
                option(text, INDENT, "auth_uri", &quoted(auth_uri));
                option(text, INDENT, "token_uri", &quoted(token_uri));
            }
        }
        let hint = self.imap.is_some().then_some(NOBODY);
        if let Some(user) = self.user.as_deref().or(hint) {
            option(text, INDENT, "address", &quoted(user));
        }
    }

    fn client(&self, text: &mut String) {
        text.push('\n');
        option(text, INDENT, "client_id", &quoted(CLIENT_ID));
        let secret = format!("client_secret = {};", quoted(CLIENT_SECRET));
        match self.secret {
            Some(SecretUse::Never) => {}
            Some(SecretUse::Always) => {
                let _ = writeln!(text, "{INDENT}{secret}");
            }
            Some(SecretUse::Sometimes) | None => {
                comment(text, INDENT, "Only if you were given one.");
                let _ = writeln!(text, "{INDENT}// {secret}");
            }
        }
    }

    fn request(&self, text: &mut String) {
        if !self.scopes.is_empty() {
            let _ = writeln!(text, "\n{INDENT}scopes = [");
            let last = self.scopes.len() - 1;
            for (at, (scope, about)) in self.scopes.iter().enumerate() {
                let comma = if at == last { "" } else { "," };
                if !about.is_empty() {
                    comment(text, INNER, about);
                }
                let _ = writeln!(text, "{INNER}{}{comma}", quoted(scope));
            }
            let _ = writeln!(text, "{INDENT}];");
        }
        if matches!(self.endpoints, Endpoints::Preset(_)) {
            return;
        }
        text.push('\n');
        let what = "As registered, letter by letter, but for the port.";
        comment(text, INDENT, what);
        option(text, INDENT, "redirect_uri", &quoted(self.redirect_uri));
    }
}

const INDENT: &str = "    ";
const INNER: &str = "        ";

/// These scopes, with what each is for.
pub(super) fn scopes<'a>(
    scopes: impl Iterator<Item = &'a (&'a str, Purpose)>,
) -> Vec<(String, &'static str)> {
    let with_words = scopes.map(|(scope, purpose)| ((*scope).to_owned(), about(*purpose)));
    with_words.collect()
}

fn about(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Imap => "Reading by IMAP.",
        Purpose::Pop3 => "Reading by POP3.",
        Purpose::Smtp => "Sending.",
        Purpose::Mail => "Reading and sending.",
        Purpose::Offline => "A refresh token, so that nobody has to sign in again.",
        Purpose::Other => "",
    }
}

fn option(text: &mut String, indent: &str, name: &str, value: &str) {
    let _ = writeln!(text, "{indent}{name} = {value};");
}

/// A string of the configuration, made safe.
fn quoted(text: &str) -> String {
    config::quoted(&sanitize(text))
}

/// Words as a comment.
fn comment(text: &mut String, indent: &str, words: &str) {
    text.push_str(&config::comment(indent, words, WIDTH));
}
