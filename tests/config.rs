//! The config language, by its cases: `config/NAME.conf` is a file, `config/NAME.err` the exact
//! error that it must give, or `config/NAME.ok` what it must mean.
//!
//! `BLESS=1 cargo test config` writes what is missing or different; read the diff before it goes in.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use pizauth::{
    config::{self, Account, ClientSecret, Config, Level, Listen, MAX_CONFIG_BYTES, Proxy},
    secret::Secret,
};

/// The name that the cases' errors give the file.
const FILE: &str = "pizauth.conf";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

fn files(extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect();
    files.sort();
    files
}

fn outcome(text: &str) -> (&'static str, String) {
    match config::parse(FILE, text) {
        Ok(config) => ("ok", render(&config)),
        Err(error) => ("err", format!("{error}\n")),
    }
}

// Covers: H26
#[test]
fn every_case_has_its_exact_outcome() {
    let bless = env::var_os("BLESS").is_some();
    let mut wrong = String::new();
    let cases = files("conf");
    for case in &cases {
        let (extension, got) = outcome(&fs::read_to_string(case).unwrap());
        let path = case.with_extension(extension);
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        if got == wanted {
            continue;
        }
        if bless {
            fs::write(&path, got).unwrap();
        } else {
            let name = path.display();
            writeln!(wrong, "{name}\n--- wanted\n{wanted}--- got\n{got}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(cases.len(), files("err").len() + files("ok").len());
    assert!(files("err").len() >= 45 && files("ok").len() >= 6);
}

/// Whatever is wrong with a file, no error shows its secrets. In the cases each of them says
/// "hush". Every line of one is also cut, and has something foreign put into it, at every place
/// but inside a word: half an option's name tells nobody that its value is a secret.
#[test]
fn no_error_shows_a_secret() {
    let mut seen = 0;
    for text in files("conf")
        .iter()
        .map(|case| fs::read_to_string(case).unwrap())
    {
        for (secret, _) in text.match_indices("hush") {
            let line = text[..secret].rfind('\n').map_or(0, |at| at + 1);
            for (at, _) in text[line..secret + 7].char_indices() {
                let (before, after) = text.split_at(line + at);
                if before.ends_with(is_word) && after.starts_with(is_word) {
                    continue;
                }
                let foreign = ["\u{1}", " ;", " \" ", " } "];
                let texts = foreign.map(|foreign| format!("{before}{foreign}{after}"));
                for text in texts.iter().map(|text| &**text).chain([before, &text]) {
                    if let Err(error) = config::parse(FILE, text) {
                        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
                        seen += 1;
                    }
                }
            }
        }
    }
    assert!(seen > 1_000);
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[test]
fn a_client_secret_is_read_as_written() {
    let text = fs::read_to_string(directory().join("good-escapes.conf")).unwrap();
    let config = config::parse(FILE, &text).unwrap();
    let secret = Secret::new(r#"hush"\hush"#.into());
    let given = ClientSecret::Given(Arc::new(secret));
    assert_eq!(config.accounts[0].client.secret, given);
}

// Covers: H26
#[test]
fn a_file_may_be_as_large_as_it_says_and_no_larger() {
    let mut text = String::new();
    for index in 0..10_000 {
        writeln!(
            text,
            "account \"a{index}\" {{ auth_uri = \"https://a.b/\"; \
             token_uri = \"https://a.b/\"; client_id = \"x\"; }}"
        )
        .unwrap();
    }
    text.push_str(&" ".repeat(MAX_CONFIG_BYTES - text.len()));
    assert_eq!(config::parse(FILE, &text).unwrap().accounts.len(), 10_000);
    text.push(' ');
    let error = config::parse(FILE, &text).unwrap_err();
    let larger = "pizauth.conf:1:1: the file is larger than 16384 KiB";
    assert_eq!(error.to_string(), larger);
    // Whoever reads a byte more than that may have half a character.
    let mut bytes = text.into_bytes();
    bytes.pop();
    bytes.push(0xc3);
    let error = config::text(FILE, bytes).unwrap_err();
    assert_eq!(error.to_string(), larger);
}

#[test]
fn what_is_not_utf_8_has_its_place() {
    const HINT: &str =
        "hint: save the file as UTF-8; `iconv -f latin1 -t utf-8` makes it from Latin-1";
    for (bytes, what) in [
        (
            &b"x = 1s;\n// \xc3\xa9t\xe9 caf\xe9!\n"[..],
            "pizauth.conf:2:6: this isn't UTF-8\n// \u{e9}t\u{fffd} caf\u{fffd}!\n     ^",
        ),
        (
            b"\xef\xbb\xbf// \xe9!",
            "pizauth.conf:1:4: this isn't UTF-8\n// \u{fffd}!\n   ^",
        ),
        (
            b"client_secret = \"hush\xe9hush\";",
            "pizauth.conf:1:22: this isn't UTF-8\nclient_secret = \"*********\";\n                     ^",
        ),
        (b"\xff", "pizauth.conf:1:1: this isn't UTF-8"),
    ] {
        let error = config::text(FILE, bytes.to_vec()).unwrap_err();
        assert_eq!(error.to_string(), format!("{what}\n{HINT}"));
    }
    let text = config::text(FILE, b"x = \"\xc3\xa9\";".to_vec());
    assert_eq!(text.unwrap(), "x = \"\u{e9}\";");
}

/// An option that the table names but nothing reads would be taken and ignored.
#[test]
fn every_option_is_read() {
    for (name, level) in config::options() {
        let wrong = if name.ends_with("_fields") || name.ends_with("_headers") {
            "[]"
        } else {
            "{}"
        };
        let (mut outside, mut inside) = (String::new(), String::new());
        for required in ["auth_uri", "token_uri", "client_id"] {
            if required != name {
                write!(inside, "{required} = \"https://a.b/\"; ").unwrap();
            }
        }
        match level {
            Level::Global => write!(outside, "{name} = {wrong};").unwrap(),
            Level::Socket => {
                let others = ["accounts = [\"a\"];", ""][usize::from(name == "accounts")];
                write!(outside, "socket \"/s\" {{ {others} {name} = {wrong}; }}").unwrap();
            }
            Level::Proxy => {
                let needed = [("account", "a"), ("server", "imaps://m")];
                let others = needed.iter().filter(|(other, _)| *other != name);
                let others: String = others
                    .map(|(name, value)| format!("{name} = \"{value}\"; "))
                    .collect();
                write!(outside, "proxy \"/p\" {{ {others}{name} = {wrong}; }}").unwrap();
            }
            Level::Account | Level::Both => write!(inside, "{name} = {wrong};").unwrap(),
        }
        let text = format!("{outside} account \"a\" {{ {inside} }}");
        let error = config::parse(FILE, &text).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}` takes ")), "{error}");
    }
}

#[test]
fn a_byte_order_mark_and_foreign_line_ends_are_fine() {
    for text in [
        "\u{feff}account \"a\" { auth_uri = \"https://a.b/\"; token_uri = \"https://a.b/\"; client_id = \"x\"; }",
        "account \"a\" {\r\n auth_uri = \"https://a.b/\";\r\n token_uri = \"https://a.b/\"; // x\r\n client_id = \"x\";\r\n}",
    ] {
        assert!(config::parse(FILE, text).is_ok());
    }
    let error = config::parse(FILE, "\u{feff}x = 1s;").unwrap_err();
    assert_eq!((error.line, error.column), (1, 1));
}

fn render(config: &Config) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| writeln!(out, "{name} {value}").unwrap();
    let commands = [
        ("auth_notify_cmd", &config.auth_notify_cmd),
        ("error_notify_cmd", &config.error_notify_cmd),
        ("startup_cmd", &config.startup_cmd),
        ("state_load_cmd", &config.state_load_cmd),
        ("state_save_cmd", &config.state_save_cmd),
        ("token_event_cmd", &config.token_event_cmd),
        ("transient_error_if_cmd", &config.transient_error_if_cmd),
    ];
    for (name, command) in commands {
        line(name, command.clone().unwrap_or_else(|| "-".into()));
    }
    let interval = config.auth_notify_interval.as_secs();
    line("auth_notify_interval", format!("{interval}s"));
    line("http_listen", listen(&config.http_listen));
    line("https_listen", listen(&config.https_listen));
    for account in &config.accounts {
        render_account(account, &mut out);
    }
    for socket in &config.sockets {
        let names = socket.accounts.join(", ");
        writeln!(
            out,
            "\nsocket {} {:?} for {names}",
            socket.path, socket.allow
        )
        .unwrap();
    }
    for proxy in &config.proxies {
        render_proxy(proxy, &mut out);
    }
    for warning in &config.warnings {
        writeln!(out, "warning {warning}").unwrap();
    }
    out
}

fn render_proxy(proxy: &Proxy, out: &mut String) {
    let Proxy {
        address,
        account,
        server,
        password_cmd,
        user,
        tls,
    } = proxy;
    writeln!(out, "\nproxy {address}\n  {account} at {server}").unwrap();
    let at = server.user.as_deref().unwrap_or("-");
    writeln!(out, "  user {} {at}", user.as_deref().unwrap_or("-")).unwrap();
    let password = password_cmd.as_deref().unwrap_or("-");
    writeln!(out, "  password_cmd {password}").unwrap();
    if let Some(tls) = tls {
        let how = ["starttls", "implicit"][usize::from(tls.implicit)];
        writeln!(out, "  tls {how} {} {}", tls.certificate, tls.key).unwrap();
    }
}

fn render_account(account: &Account, out: &mut String) {
    let registration = &account.registration;
    let policy = &account.policy;
    let secret = match &account.client.secret {
        ClientSecret::None => "-",
        ClientSecret::Given(_) => "set",
        ClientSecret::Command(command) => command,
    };
    let times = [
        policy.refresh_at_least,
        policy.refresh_before_expiry,
        policy.refresh_retry,
    ];
    let times = times.map(|time| format!("{}s", time.as_secs())).join(" ");
    writeln!(out, "\naccount {}", account.name).unwrap();
    for (name, value) in [
        (
            "auth_uri",
            registration
                .auth_uri
                .as_ref()
                .map_or("-", |uri| uri.as_str()),
        ),
        (
            "token_uri",
            registration
                .token_uri
                .as_ref()
                .map_or("-", |uri| uri.as_str()),
        ),
        ("redirect_uri", registration.redirect_uri.as_str()),
        ("client_id", &registration.client_id),
        ("client_secret", secret),
        ("refresh", &times),
    ] {
        writeln!(out, "  {name} {value}").unwrap();
    }
    if let Some(issuer) = &registration.issuer {
        writeln!(out, "  issuer {issuer}").unwrap();
    }
    if let Some(file) = &account.token_file {
        writeln!(out, "  token_file {} {:?}", file.path, file.format).unwrap();
    }
    if let Some(uri) = &account.device_auth_uri {
        writeln!(out, "  device_auth_uri {uri}").unwrap();
    }
    if let Some(uri) = &account.revocation_uri {
        writeln!(out, "  revocation_uri {uri}").unwrap();
    }
    for scope in &registration.scopes {
        writeln!(out, "  scope {scope}").unwrap();
    }
    for (key, value) in &registration.auth_uri_fields {
        writeln!(out, "  field {key} = {value}").unwrap();
    }
    for (key, value) in &registration.token_uri_fields {
        writeln!(out, "  token field {key} = {value}").unwrap();
    }
    for header in &account.client.headers {
        let value = header.value.expose();
        writeln!(out, "  header {}: {value}", header.name).unwrap();
    }
    if let Some(auth) = account.client.auth {
        writeln!(out, "  client_auth {auth:?}").unwrap();
    }
}

fn listen(listen: &Listen) -> String {
    match listen {
        Listen::None => "none".into(),
        Listen::On { host, port } => format!("{host} port {port}"),
    }
}
