//! An account block, as text: what is known, and what the user has to fill in.

use std::fmt::Write;

use crate::mail::{Protocol, Server};
use crate::providers::{Provider, SecretUse};
use crate::{
    config::{self, string},
    secret::Secret,
    text::sanitize,
};

/// What stands where only the user knows.
pub(super) const CLIENT_ID: &str = "your client id";
const CLIENT_SECRET: &str = "your client secret";

/// The option that says what the tokens are for (RFC 8707).
pub(super) const RESOURCE: &str = "resource";

/// The user, when none was given.
pub(super) const NOBODY: &str = "you@example.com";

/// Where RFC 8252, 7.3 and 8.3 would have the browser sent.
const REDIRECT_URI: &str = "http://127.0.0.1/";

/// How wide a comment may be, in characters.
const WIDTH: usize = 80;

/// Everything that an account block and the mail programs need.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The account's name.
    pub account: String,
    /// What it is, for people.
    pub title: String,
    /// Whose mailbox, if that was given.
    pub user: Option<String>,
    /// Whose it is, if the table has it.
    pub provider: Option<&'static Provider>,
    /// Where another provider is asked: the options, and their values.
    pub endpoints: Vec<(&'static str, String)>,
    /// With what each is for.
    pub scopes: Vec<(String, &'static str)>,
    /// About the client id, and the rest, in paragraphs.
    pub notes: Vec<String>,
    /// The issuer at which pizauth can register itself, and the scopes to name there.
    pub registers: Option<(String, Vec<String>)>,
    /// At most one of each protocol, in the order of the protocols.
    pub servers: Vec<Server>,
}

impl Plan {
    /// For an account with a provider of the table.
    pub(super) fn of(provider: &'static Provider, user: Option<&str>) -> Self {
        let urls = [provider.imap, provider.pop3, provider.smtp];
        let urls = urls.into_iter().flatten();
        let scopes = || provider.scopes.iter().map(|(scope, _)| (*scope).to_owned());
        Plan {
            account: provider.name.into(),
            title: provider.title.into(),
            user: user.map(str::to_owned),
            provider: Some(provider),
            notes: provider.notes().map(str::to_owned).collect(),
            registers: (provider.registers_at).map(|it| (it.to_owned(), scopes().collect())),
            servers: urls.filter_map(|url| Server::parse(url).ok()).collect(),
            ..Plan::default()
        }
    }

    /// The configuration, all of it valid in pizauth.conf(5). `file` is where it belongs.
    pub(super) fn config(&self, file: &str) -> String {
        let mut text = String::new();
        self.introduction(&mut text, file);
        text + "\n" + &self.account_block(&self.placeholders())
    }

    /// The account with this client.
    pub(super) fn block(&self, client_id: &str, secret: Option<&Secret>) -> Secret {
        let mut client = String::new();
        option(&mut client, "client_id", &string(client_id));
        if let Some(secret) = secret {
            let secret = config::quoted(secret.expose());
            option(&mut client, "client_secret", &secret);
        }
        Secret::new(self.account_block(&client))
    }

    fn account_block(&self, client: &str) -> String {
        let mut text = format!("account {} {{\n", string(&self.account));
        self.endpoints(&mut text);
        text.push_str(client);
        self.request(&mut text);
        text + "}\n"
    }

    /// A block that a registration has made, with the mailbox.
    pub(super) fn addressed(&self, block: &Secret) -> Secret {
        let mut text = block.expose().trim_end().trim_end_matches('}').to_owned();
        let resource = self.endpoints.iter().filter(|(name, _)| *name == RESOURCE);
        for (name, value) in resource {
            option(&mut text, name, &string(value));
        }
        if let Some(user) = &self.user {
            option(&mut text, "address", &string(user));
        }
        Secret::new(text + "}\n")
    }

    /// Whether `account` is for this mailbox.
    pub(super) fn is_for(&self, account: &config::Account) -> bool {
        let fields = &account.registration.auth_uri_fields;
        let user = fields.iter().find(|(key, _)| key == "login_hint");
        user.is_some_and(|(_, user)| self.user.as_ref() == Some(user))
    }

    /// The server of this protocol.
    pub(super) fn server(&self, protocol: Protocol) -> Option<&Server> {
        self.servers.iter().find(|it| it.protocol == protocol)
    }

    /// The servers that a sign-in is tried at. Most mailboxes with IMAP have POP3 switched off.
    fn to_test(&self) -> impl Iterator<Item = &Server> {
        let has_imap = self.server(Protocol::Imap).is_some();
        let servers = self.servers.iter();
        servers.filter(move |it| it.protocol != Protocol::Pop3 || !has_imap)
    }

    /// The servers to test, where the provider's aren't known.
    pub(super) fn urls(&self) -> Vec<String> {
        let unknown = self.to_test().filter(|_| self.provider.is_none());
        unknown.map(Server::to_string).collect()
    }

    /// Whether it may have servers, and none is known.
    pub(super) fn lacks_servers(&self) -> bool {
        self.provider.is_none() && self.servers.is_empty()
    }

    /// What it is, and how to get a client id.
    pub(super) fn about(&self) -> String {
        let notes = std::iter::once(&self.title).chain(&self.notes);
        let text: String = notes.map(|it| config::comment("", it, WIDTH)).collect();
        let lines = text.lines().map(|line| line.trim_start_matches("// "));
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn introduction(&self, text: &mut String, file: &str) {
        let whose = match &self.user {
            Some(user) => format!("{}, for {user}.", self.title),
            None => format!("{}.", self.title),
        };
        comment(text, "", &whose);
        comment(text, "", &format!("Put this into {file}."));
        text.push_str("//\n");
        let what = "Client id: what the provider knows a program by. pizauth comes with none, so you need \
                    one of your own.";
        comment(text, "", what);
        if let Some((issuer, scopes)) = &self.registers {
            let scopes: String = scopes.iter().map(|it| format!("-s {it} ")).collect();
            let what = "This provider lets programs register themselves. `pizauth setup` on a terminal does \
                        that, and this prints an account to take the place of the one below:";
            comment(text, "", what);
            let command = sanitize(&format!("pizauth register {scopes}{issuer}"));
            let _ = writeln!(text, "//\n//   {command}");
        }
        for note in &self.notes {
            comment(text, "", note);
        }
        self.list_servers(text);
        text.push_str("//\n");
        let account = &self.account;
        let trial = match (self.server(Protocol::Irc), self.to_test().next().is_some()) {
            (Some(irc), _) => format!(", and `pizauth test {account} {irc}` tries the server"),
            (None, true) => format!(", and `pizauth test {account}` tries the mail servers"),
            (None, false) => String::new(),
        };
        let then = format!(
            "Then `pizauth check`, `pizauth server` (or, if it is running, `pizauth reload`) and \
             `pizauth auth {account}`{trial}."
        );
        comment(text, "", &then);
    }

    fn list_servers(&self, text: &mut String) {
        for (at, server) in self.servers.iter().enumerate() {
            text.push_str(if at == 0 { "//\n" } else { "" });
            let _ = writeln!(text, "// {server}");
        }
        if let Some(provider) = self.provider.filter(|it| it.imap.is_some()) {
            let more = match provider.oauthbearer {
                true => " and OAUTHBEARER",
                false => "",
            };
            let _ = writeln!(text, "// SASL: XOAUTH2{more}");
        }
    }

    fn endpoints(&self, text: &mut String) {
        if let Some(provider) = self.provider {
            option(text, "provider", &string(provider.name));
        }
        for (name, value) in &self.endpoints {
            if *name == "issuer" {
                comment(text, INDENT, "It publishes its endpoints (RFC 8414).");
            }
            option(text, name, &string(value));
        }
        let hint = self.server(Protocol::Imap).map(|_| NOBODY);
        if let Some(user) = self.user.as_deref().or(hint) {
            option(text, "address", &string(user));
        }
    }

    /// What stands where only the user knows.
    fn placeholders(&self) -> String {
        let mut text = String::from("\n");
        option(&mut text, "client_id", &string(CLIENT_ID));
        let secret = format!("client_secret = {};", string(CLIENT_SECRET));
        match self.provider.map(|it| it.secret) {
            Some(SecretUse::Never) => {}
            Some(SecretUse::Always) => text.push_str(&format!("{INDENT}{secret}\n")),
            Some(SecretUse::Sometimes) | None => {
                comment(&mut text, INDENT, "Only if you were given one.");
                text.push_str(&format!("{INDENT}// {secret}\n"));
            }
        }
        text
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
                let _ = writeln!(text, "{INNER}{}{comma}", string(scope));
            }
            let _ = writeln!(text, "{INDENT}];");
        }
        if self.provider.is_some() {
            return;
        }
        text.push('\n');
        let what = "Exactly as registered, except for the port.";
        comment(text, INDENT, what);
        option(text, "redirect_uri", &string(REDIRECT_URI));
    }
}

const INDENT: &str = "    ";
const INNER: &str = "        ";

fn option(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{INDENT}{name} = {value};");
}

/// Words as a comment.
fn comment(text: &mut String, indent: &str, words: &str) {
    text.push_str(&config::comment(indent, words, WIDTH));
}
