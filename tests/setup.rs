//! `pizauth setup`: what it prints. `setup/NAME.conf` is the exact part for pizauth, which
//! `BLESS=1 cargo test setup::` writes, to be read before it goes in; the rest is held against
//! examples/clients, line by line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pizauth::config::{self, Registration};
use pizauth::providers::{PROVIDERS, Purpose};
use serde_json::json;

use crate::support::command::Output;
use crate::support::daemon::Daemon;
use crate::support::http::Response;
use crate::support::provider::{Dormant, Provider, Scripted};
use crate::support::tls::{Authority, Front, Tunnel};

const AUTOCONFIG: &str = "/mail/config-v1.1.xml";
const WELL_KNOWN_AUTOCONFIG: &str = "/.well-known/autoconfig/mail/config-v1.1.xml";
const USER_AGENT_CONFIGURATION: &str = "/.well-known/user-agent-configuration";
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// Nothing runs, and no program is in `PATH`.
fn nothing() -> Daemon {
    let mut daemon = Daemon::new("");
    fs::create_dir(daemon.path("bin")).unwrap();
    let path = daemon.path("bin").display().to_string();
    daemon.env("PATH", &path);
    daemon
}

/// What the command prints, with `CONFIG` for the place of the configuration.
fn printed(daemon: &Daemon, args: &[&str]) -> String {
    let output = daemon.run(&[&["setup"], args].concat());
    assert_eq!(output.status, 0, "{output:?}");
    let config = daemon.config_path().display().to_string();
    // A comment may have been broken in front of so long a word.
    let text = output
        .stdout
        .replace(&format!("into\n// {config}"), &format!("into {config}"));
    text.replace(&config, "CONFIG")
}

/// Compares the part for pizauth with `setup/NAME.conf`.
fn compare(name: &str, text: &str) {
    let file = format!("tests/setup/{name}.conf");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let (text, _) = text.split_once("\n==== ").unwrap_or((text, ""));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, text).unwrap();
    }
    let wanted = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        wanted == text,
        "{name}\n--- wanted\n{wanted}--- got\n{text}"
    );
}

/// The part for a mail program, held against its example: the lines that differ from that.
fn filled_in(text: &str, heading: &str, example: &str) -> Vec<String> {
    let (_, part) = text
        .split_once(&format!(
            "\n==== {heading}, or the file that you have ====\n\n"
        ))
        .unwrap_or_else(|| panic!("no {heading} in {text}"));
    let (part, _) = part.split_once("\n\n====").unwrap_or((part, ""));
    let example = format!("examples/clients/{example}");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join(example);
    let example = fs::read_to_string(example).unwrap();
    let pairs: Vec<(&str, &str)> = part.lines().zip(example.lines()).collect();
    assert_eq!(pairs.len(), example.lines().count(), "{part}");
    let changed = pairs.iter().filter(|(own, published)| own != published);
    changed.map(|(own, _)| (*own).to_owned()).collect()
}

/// The part for pizauth, which must be a good configuration.
fn checked(daemon: &Daemon, text: &str) -> Registration {
    let config = text.split("\n==== ").next().unwrap();
    let file = daemon.path("printed.conf");
    // What only the user knows is told apart from the rest.
    let mut config = config.replace("you@example.com", "me@work.test");
    for what in ["your client id", "your client secret"] {
        config = config.replace(&format!("\"{what}\""), "\"mine\"");
    }
    let config = &*config;
    fs::write(&file, config).unwrap();
    // As the README says.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let output = daemon.run(&["check", "-c", file.to_str().unwrap()]);
    assert_eq!(output.ok(), "", "{config}");
    let config = config::parse("printed.conf", config).unwrap();
    let registration = &config.accounts.first().unwrap().registration;
    Registration::clone(registration)
}

#[test]
fn every_provider_is_set_up_as_its_example_has_it() {
    let daemon = nothing();
    for provider in PROVIDERS.iter() {
        let text = printed(&daemon, &["--client", "all", provider.name]);
        let registration = checked(&daemon, &text);
        for purpose in [Purpose::Imap, Purpose::Smtp] {
            let scope = provider.scope_for(purpose);
            assert!(scope.is_none_or(|it| registration.scopes.iter().any(|own| own == it)));
        }
        let example = match provider.name {
            "microsoft" => "microsoft365",
            "google" => "gmail",
            "srht" => "irc-srht",
            name @ ("yahoo" | "fastmail" | "gitlab") => name,
            _ => continue,
        };
        let example = format!("examples/providers/{example}.conf");
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join(example);
        let example = config::parse("example", &fs::read_to_string(example).unwrap()).unwrap();
        let example = &example.accounts.first().unwrap().registration;
        // Where the example leaves the endpoints to the issuer, there is nothing to compare.
        let registration = match example.discovers() {
            Some(_) => Registration {
                auth_uri: None,
                token_uri: None,
                ..registration
            },
            None => registration,
        };
        let facts = |it: &Registration| {
            let redirect_uri = it.redirect_uri.clone();
            (
                it.auth_uri.clone(),
                it.token_uri.clone(),
                it.scopes.clone(),
                redirect_uri,
            )
        };
        assert_eq!(facts(&registration), facts(example), "{}", provider.name);
    }
}

#[test]
fn what_is_printed_can_be_used_as_it_is() {
    let daemon = nothing();
    for (name, args) in [
        (
            "gmail",
            &["me@gmail.com", "-c", "msmtp", "-c", "mbsync"][..],
        ),
        ("microsoft", &["microsoft", "--client", "all"]),
        ("outlook", &["you@hotmail.com", "--client=none"]),
        ("yahoo", &["-c", "aerc", "-c", "neomutt", "yahoo"]),
        ("workspace", &["google", "me@work.example", "-c", "none"]),
        ("srht", &["srht"]),
        ("gitlab", &["gitlab"]),
    ] {
        let text = printed(&daemon, args);
        checked(&daemon, &text);
        compare(name, &text);
    }
}

#[test]
fn the_mail_programs_get_what_is_published_with_the_users_own_values() {
    let daemon = nothing();
    let text = printed(&daemon, &["-c", "all", "me@gmail.com"]);
    let has = |heading: &str, example: &str, wanted: &[&str]| {
        let lines = filled_in(&text, heading, example);
        for wanted in wanted {
            let found = lines.iter().any(|line| line.trim() == *wanted);
            assert!(found, "{heading}: no {wanted:?} in {lines:#?}");
        }
    };
    has(
        "msmtp: ~/.msmtprc",
        "msmtp/msmtprc",
        &[
            "account google",
            "host smtp.gmail.com",
            "port 465",
            "tls_starttls off",
            "user me@gmail.com",
            "passwordeval \"pizauth show google\"",
        ],
    );
    has(
        "mbsync: ~/.mbsyncrc",
        "mbsync/mbsyncrc",
        &[
            "IMAPAccount google",
            "Host imap.gmail.com",
            "User me@gmail.com",
            "Far :google-remote:",
        ],
    );
    has(
        "aerc: ~/.config/aerc/accounts.conf",
        "aerc/accounts.conf",
        &["outgoing          = smtps+xoauth2://me%40gmail.com@smtp.gmail.com:465"],
    );
    has(
        "neomutt: ~/.config/neomutt/neomuttrc",
        "neomutt/neomuttrc",
        &["set smtp_url = \"smtps://me@gmail.com@smtp.gmail.com:465/\""],
    );
    has(
        "git-send-email: ~/.gitconfig",
        "git-send-email/gitconfig",
        &[
            "smtpServerPort = 465",
            "smtpEncryption = ssl",
            "[credential \"smtp://smtp.gmail.com:465\"]",
            "helper = !pizauth git-credential google",
        ],
    );
    has(
        "mpop: ~/.mpoprc",
        "mpop/mpoprc",
        &["host pop.gmail.com", "user me@gmail.com"],
    );
    has(
        "emacs: ~/.emacs.d/init.el",
        "emacs/pizauth.el",
        &["smtpmail-smtp-service 465", "smtpmail-stream-type 'ssl)"],
    );
    has(
        "s-nail: ~/.mailrc",
        "s-nail/mailrc",
        &[
            "set imap-auth=oauthbearer smtp-auth=oauthbearer",
            "set mta=smtps://me%40gmail.com@smtp.gmail.com:465",
        ],
    );
    has(
        "offlineimap: ~/.offlineimaprc",
        "offlineimap/offlineimaprc",
        &[
            "remotehost = imap.gmail.com",
            "oauth2_access_token_eval = token(\"google\")",
        ],
    );
    let script = filled_in(
        &text,
        "offlineimap: ~/.config/offlineimap/pizauth.py",
        "offlineimap/pizauth.py",
    );
    assert!(script.is_empty(), "{script:?}");
    let text = printed(&daemon, &["-c", "msmtp", "microsoft"]);
    let lines = filled_in(&text, "msmtp: ~/.msmtprc", "msmtp/msmtprc");
    let wanted = [
        "account microsoft",
        "host smtp.office365.com",
        "passwordeval \"pizauth show microsoft\"",
        "account default : microsoft",
    ];
    assert_eq!(lines, wanted);
    let text = printed(&daemon, &["gitlab", "-c", "msmtp"]);
    let lines = filled_in(&text, "git: ~/.gitconfig", "git/gitconfig");
    let wanted = [
        "[credential \"https://gitlab.com\"]",
        "\thelper = !pizauth git-credential gitlab",
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn every_provider_is_in_the_manual_and_offered_by_the_shells() {
    let output = nothing().run(&["setup", "-c", "?", "google"]);
    let (_, programs) = output.stderr.split_once("known are ").unwrap();
    let programs: Vec<&str> = programs.split([',', ';', ' ']).collect();
    assert!(programs.len() > 10, "{programs:?}");
    for file in [
        "pizauth.1",
        "share/bash/completion.bash",
        "share/zsh/_pizauth",
        "share/fish/pizauth.fish",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(path).unwrap();
        for provider in PROVIDERS.iter() {
            let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
            assert!(
                words.any(|it| it == provider.name),
                "{file}: {}",
                provider.name
            );
        }
        for program in programs.iter().filter(|_| file.starts_with("share")) {
            assert!(text.contains(program.trim()), "{file}: {program}");
        }
    }
}

#[test]
fn the_programs_that_are_there_are_found() {
    let daemon = nothing();
    let output = daemon.run(&["setup", "google"]);
    assert_eq!(
        output.stderr,
        "mail programs: none that pizauth knows; `--print NAME` prints what one needs\n"
    );
    assert!(!output.stdout.contains("\n===="), "{output:?}");
    for (name, mode) in [("mutt", 0o755), ("msmtp", 0o755), ("fdm", 0o644)] {
        let program = daemon.path("bin").join(name);
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(mode)).unwrap();
    }
    let output = daemon.run(&["setup", "google"]);
    assert_eq!(
        output.stderr,
        "mail programs: msmtp, mutt; `--print NAME` prints what one needs\n"
    );
    // Into a file goes a configuration, whatever is installed.
    assert!(!output.stdout.contains("\n===="), "{output:?}");
    checked(&daemon, &output.stdout);
    let text = printed(&daemon, &["google", "-c", "none"]);
    assert!(!text.contains("===="), "{text}");
}

#[test]
fn what_cannot_be_set_up_is_said_and_why() {
    let mut daemon = nothing();
    // The network is down, and its name servers with it.
    let proxy = Dormant::new();
    daemon.env("HTTPS_PROXY", &proxy.url(""));
    for (target, status, what) in [
        (
            "me@icloud.com",
            1,
            "ERROR - Apple iCloud has no OAuth2 for mail programs\nhint: it takes an app-specific \
             password, from the settings of your Apple account\n",
        ),
        (
            "no\u{1b}body",
            64,
            "ERROR - `no body` is no address and no provider\nhint: known are ",
        ),
        (
            "a b@mail.example",
            64,
            "ERROR - `a b@mail.example` is no address",
        ),
        ("me@-", 64, "ERROR - `me@-` is no address"),
        (
            "me@mail..example",
            64,
            "ERROR - `me@mail..example` is no address",
        ),
        (
            "me@nowhere.invalid",
            75,
            "ERROR - nothing is known of nowhere.invalid: nowhere.invalid: Connection refused (os \
             error 111)\nhint: if one of the big providers serves it, name that: `pizauth setup microsoft me@nowhere.invalid`; ",
        ),
        (
            "https://nowhere.invalid/",
            75,
            "ERROR - nothing is known of https://nowhere.invalid/: nowhere.invalid: Connection \
             refused (os error 111)\n",
        ),
        (
            "https://",
            64,
            "ERROR - `https://` is no address: empty host",
        ),
    ] {
        let output = daemon.run(&["setup", target]);
        assert!(output.failed(status).starts_with(what), "{output:?}");
    }
    for (target, user, what) in [
        (
            "me@gmail.com",
            "you@gmail.com",
            "ERROR - `me@gmail.com` is no provider",
        ),
        (
            "google",
            "you",
            "ERROR - `you` is no address and no provider",
        ),
    ] {
        let output = daemon.run(&["setup", target, user]);
        assert!(output.failed(64).starts_with(what), "{output:?}");
    }
    let output = daemon.run(&["setup", "-c", "pine", "google"]);
    assert_eq!(
        output.failed(64),
        "ERROR - `pine` is no mail program that is known here\nhint: known are aerc, emacs, fdm, getmail, \
         git-send-email, goimapnotify, himalaya, mbsync, meli, mpop, msmtp, mutt, neomutt, offlineimap, s-nail; and all, \
         and none\n"
    );
}

/// A domain `example.org` with web servers, which are all one, behind a proxy.
struct Domain {
    daemon: Daemon,
    web: Provider,
    tunnel: Tunnel,
}

impl Domain {
    fn new() -> Self {
        let web = Provider::start();
        let authority = Authority::new();
        let names = [
            "example.org",
            "autoconfig.example.org",
            "login.example.org",
            "irc.example.org",
            "mcp.example.org",
        ];
        let front = Front::start(web.port(), authority.certify_all(&names));
        let tunnel = Tunnel::start(front.port);
        let mut daemon = nothing();
        let trusted = daemon.path("ca.pem");
        fs::write(&trusted, authority.pem()).unwrap();
        daemon.env("SSL_CERT_FILE", trusted.to_str().unwrap());
        daemon.env("HTTPS_PROXY", &format!("http://127.0.0.1:{}", tunnel.port));
        Domain {
            daemon,
            web,
            tunnel,
        }
    }

    fn serve(&self, path: &str, body: &str) {
        let response = Response::new(200, "text/plain", body);
        self.web.script(path, Scripted::Reply(response));
    }

    fn metadata(&self, issuer: &str, more: serde_json::Value) {
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": "https://login.example.org/auth",
            "token_endpoint": "https://login.example.org/token",
        });
        let members = document.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        self.serve(METADATA, &document.to_string());
    }

    fn printed(&self) -> String {
        printed(&self.daemon, &["-c", "msmtp", "me@example.org"])
    }
}

const SERVERS: &str = r#"<incomingServer type="imap"><hostname>imap.example.org</hostname>
    <port>993</port><socketType>SSL</socketType></incomingServer>
    <outgoingServer type="smtp"><hostname>smtp.example.org</hostname>
    <port>465</port><socketType>SSL</socketType></outgoingServer>"#;

fn autoconfig(servers: &str, oauth: &str) -> String {
    format!(
        "<clientConfig version=\"1.1\"><emailProvider id=\"example.org\">{servers}</emailProvider>\
         <oAuth2>{oauth}</oAuth2></clientConfig>"
    )
}

#[test]
fn a_domain_tells_its_servers_and_its_issuer() {
    let domain = Domain::new();
    let issuer = "<issuer>login.example.org</issuer>";
    domain.serve(WELL_KNOWN_AUTOCONFIG, &autoconfig(SERVERS, issuer));
    domain.metadata(
        "https://login.example.org",
        json!({
            "scopes_supported": ["openid", "offline_access", "urn:ietf:params:oauth:scope:mail"],
            "registration_endpoint": "https://login.example.org/register",
        }),
    );
    let text = domain.printed();
    let registration = checked(&domain.daemon, &text);
    assert_eq!(
        registration.issuer.as_deref(),
        Some("https://login.example.org")
    );
    compare("discovered", &text);
    // Nobody learns whose address it is.
    assert_eq!(
        domain.tunnel.asked(),
        [
            "CONNECT autoconfig.example.org:443",
            "CONNECT example.org:443",
            "CONNECT login.example.org:443",
        ]
    );
    let asked = domain.web.requests(WELL_KNOWN_AUTOCONFIG);
    assert!(
        asked.iter().all(|request| request.query.0.is_empty()),
        "{asked:?}"
    );
}

#[test]
fn a_domain_of_a_known_provider_is_set_up_as_that() {
    let domain = Domain::new();
    let hosted = SERVERS.replace("imap.example.org", "imap.gmail.com");
    domain.serve(AUTOCONFIG, &autoconfig(&hosted, ""));
    let text = domain.printed();
    assert!(
        text.starts_with("// Gmail and Google Workspace, for me@example.org.\n"),
        "{text}"
    );
    assert!(text.contains("address = \"me@example.org\";"), "{text}");

    let domain = Domain::new();
    let issuer = "<issuer>login.microsoftonline.com</issuer>";
    domain.serve(AUTOCONFIG, &autoconfig(SERVERS, issuer));
    assert!(
        domain
            .printed()
            .starts_with("// Microsoft 365, for me@example.org.\n")
    );
}

#[test]
fn a_domain_may_say_it_in_other_ways() {
    // Endpoints instead of an issuer.
    let domain = Domain::new();
    let oauth = "<scope>a \\ &quot;b</scope><authURL>https://login.example.org/a</authURL>\
                 <tokenURL>https://login.example.org/t</tokenURL>";
    domain.serve(AUTOCONFIG, &autoconfig(SERVERS, oauth));
    let registration = checked(&domain.daemon, &domain.printed());
    let uri = registration.token_uri.unwrap();
    assert_eq!(uri.as_str(), "https://login.example.org/t");
    assert_eq!(registration.scopes, ["a", "\\", "\"b"]);

    // A description for mail programs, with a redirect on the way.
    let domain = Domain::new();
    let moved = Response::redirect(301, "https://example.org/elsewhere");
    domain
        .web
        .script(USER_AGENT_CONFIGURATION, Scripted::Reply(moved));
    let issuer =
        json!({"authentication": {"oauth-public": {"issuer": "https://login.example.org"}}});
    domain.serve("/elsewhere", &issuer.to_string());
    domain.metadata("https://login.example.org", json!({}));
    let registration = checked(&domain.daemon, &domain.printed());
    assert_eq!(
        registration.issuer.as_deref(),
        Some("https://login.example.org")
    );

    // The domain is the issuer.
    let domain = Domain::new();
    domain.metadata("https://example.org", json!({}));
    let text = printed(&domain.daemon, &["-c", "none", "https://example.org"]);
    let registration = checked(&domain.daemon, &text);
    assert_eq!(registration.issuer.as_deref(), Some("https://example.org"));
}

#[test]
fn the_web_server_beside_an_irc_server_says_who_issues_its_tokens() {
    let domain = Domain::new();
    domain.metadata("https://irc.example.org", json!({}));
    let text = printed(
        &domain.daemon,
        &["-c", "none", "ircs://irc.example.org:6698"],
    );
    let registration = checked(&domain.daemon, &text);
    let issuer = registration.issuer.as_deref();
    assert_eq!(issuer, Some("https://irc.example.org"));
    for part in [
        "\naccount \"example\" {\n",
        "\n// ircs://irc.example.org:6698\n",
        "`pizauth test example ircs://irc.example.org:6698` tries the server",
    ] {
        // A comment is folded.
        let unfolded = text.replace("example\n// ircs", "example ircs");
        assert!(unfolded.contains(part), "{text}");
    }
    assert_eq!(domain.tunnel.asked(), ["CONNECT irc.example.org:443"]);
    let bad = domain.daemon.run(&["setup", "ircs://"]);
    assert!(bad.failed(64).contains("names no mail server"));
}

#[test]
fn a_protected_resource_names_its_issuer_and_what_its_tokens_are_for() {
    let resource = "https://mcp.example.org/v1/tools";
    let known = "/.well-known/oauth-protected-resource/v1/tools";
    let elsewhere = "/about/v1";
    let about = |resource: &str| {
        let document = json!({
            "resource": resource,
            "authorization_servers": ["https://login.example.org"],
            "scopes_supported": ["tools:read", "tools:write"],
        });
        document.to_string()
    };
    let challenge =
        format!("Bearer error=\"x\", resource_metadata=\"https://mcp.example.org{elsewhere}\"");
    for (place, challenge) in [(known, None), (elsewhere, Some(challenge.as_str()))] {
        let domain = Domain::new();
        let mut refused = Response::new(401, "text/plain", "");
        if let Some(challenge) = challenge {
            let line = ("WWW-Authenticate".to_owned(), challenge.to_owned());
            refused.headers.0.push(line);
        }
        domain.web.script("/v1/tools", Scripted::Reply(refused));
        domain.serve(place, &about(resource));
        domain.metadata("https://login.example.org", json!({}));
        let text = printed(&domain.daemon, &["-c", "none", resource]);
        assert!(text.contains("\naccount \"mcp\" {\n"), "{text}");
        let registration = checked(&domain.daemon, &text);
        assert_eq!(
            registration.issuer.as_deref(),
            Some("https://login.example.org")
        );
        assert_eq!(registration.scopes, ["tools:read", "tools:write"]);
        let wanted = [("resource".to_owned(), resource.to_owned())];
        assert_eq!(registration.auth_uri_fields, wanted);
        assert_eq!(registration.token_uri_fields, wanted);

        // One that says that it is another.
        domain.serve(place, &about("https://other.example.org/v1/tools"));
        let failed = domain.daemon.run(&["setup", "-c", "none", resource]);
        let said = failed.failed(1);
        assert!(said.contains("mcp.example.org answered 404"), "{said}");
    }
}

#[test]
fn nothing_is_taken_from_a_place_without_tls() {
    let domain = Domain::new();
    for path in [
        AUTOCONFIG,
        WELL_KNOWN_AUTOCONFIG,
        USER_AGENT_CONFIGURATION,
        METADATA,
    ] {
        let moved = Response::redirect(302, &domain.web.url("/plain"));
        domain.web.script(path, Scripted::Reply(moved));
    }
    domain.serve("/plain", &autoconfig(SERVERS, ""));
    let output = domain.daemon.run(&["setup", "me@example.org"]);
    let said = output.failed(1);
    assert!(
        said.starts_with("ERROR - nothing is known of example.org"),
        "{said}"
    );
    assert_eq!(domain.web.requests("/plain").len(), 0);
}

#[test]
fn check_shows_each_account_as_it_is_understood_and_none_of_its_secrets() {
    let daemon = nothing();
    let file = daemon.path("shown.conf");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/good-providers.conf");
    let presets = fs::read_to_string(path).unwrap();
    let more = r#"account "all" { provider = "yandex"; address = "me@ya.ru"; client_id = "id"; client_secret = "hush-1";
        token_uri_headers = { "X-Key": "hush-2" }; token_file = "~/token"; refresh_retry = 2m; client_auth = basic;
        token_uri_fields = { "audience": "a\"b" }; }
      account "command" { provider = "google"; client_id = "id"; client_secret_cmd = "echo hush-3"; }"#;
    let text = format!("{presets}{more}");
    fs::write(&file, &text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let output = daemon.run(&["check", "--show", "-c", file.to_str().unwrap()]);
    let shown = output.stdout;
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(!shown.contains("hush"), "{shown}");
    let once = |line: &str| {
        assert_eq!(
            shown.matches(&format!("    {line}\n")).count(),
            1,
            "{shown}"
        )
    };
    once("// client_secret = …;");
    once("// client_secret_cmd = …;");
    once("// token_uri_headers = { \"X-Key\": … };");
    once("token_file_format = raw;");
    once("refresh_retry = 120s;");
    // It is a configuration itself, and means the same.
    let meant = |text: &str| config::parse("shown", text).unwrap().accounts;
    let (before, after) = (
        meant(&text),
        meant(&shown.replace("client_auth = basic", "// ")),
    );
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        let facts = |it: &config::Account| {
            let uris = (it.device_auth_uri.clone(), it.revocation_uri.clone());
            (
                it.registration.clone(),
                uris,
                it.policy,
                it.token_file.clone(),
            )
        };
        assert_eq!(facts(before), facts(after), "{}", before.name);
    }
}

#[test]
fn one_thing_is_printed_and_nothing_else() {
    let daemon = nothing();
    let all = printed(&daemon, &["me@gmail.com", "-c", "all", "--name", "mine"]);
    let config = printed(
        &daemon,
        &["--print", "config", "me@gmail.com", "-n", "mine"],
    );
    assert!(all.starts_with(&config), "{config}");
    checked(&daemon, &config);
    let heading = "==== msmtp: ~/.msmtprc, or the file that you have ====\n\n";
    let (_, msmtp) = all.split_once(heading).unwrap();
    let text = printed(&daemon, &["-p", "msmtp", "me@gmail.com", "--name=mine"]);
    assert!(text.contains("account mine\n"), "{text}");
    let text = text.strip_prefix('\n').unwrap();
    assert!(msmtp.starts_with(text.trim_end()), "{text}");
    let text = printed(&daemon, &["-p", "git", "codeberg"]);
    assert!(text.contains("https://codeberg.org"), "{text}");
    for (args, status, what) in [
        (
            ["-p", "pine", "google"],
            64,
            "ERROR - `pine` is no mail program that is known here\n",
        ),
        (
            ["-p", "mutt", "gitlab"],
            1,
            "ERROR - mutt has no use for the servers of GitLab\n",
        ),
        (["-p", "config", ""], 64, "ERROR - no address given\n"),
    ] {
        let output = daemon.run(&[&["setup"], &args[..]].concat());
        assert!(output.failed(status).starts_with(what), "{output:?}");
    }
}

/// Answers to the guide, through a pipe.
fn guided(daemon: &Daemon, args: &[&str], answers: &[&str]) -> Output {
    let answers: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    daemon.run_with(&[&["setup"], args].concat(), answers.as_bytes())
}

/// What a guide says that had too few answers.
fn ended(output: &Output) -> &str {
    assert_eq!(output.status, 1, "{output:?}");
    &output.stderr
}

/// The steps after the account is written.
const NO_STEPS: [&str; 3] = ["n"; 3];

#[test]
fn the_guide_writes_an_account_and_a_second_one_beside_it() {
    let daemon = nothing();
    fs::remove_file(daemon.config_path()).unwrap();
    let config = || fs::read_to_string(daemon.config_path()).unwrap();
    let answers = ["nonsense", "me@gmail.com", "id-1", "hush \"1\"", "y"];
    let output = guided(&daemon, &[], &[&answers[..], &NO_STEPS].concat());
    assert_eq!(output.status, 0, "{output:?}");
    assert!(
        output.stdout.contains("`nonsense` is no address"),
        "{output:?}"
    );
    assert!(output.stdout.contains("type \"Desktop app\""), "{output:?}");
    assert!(!output.stdout.contains("hush"), "{output:?}");
    let first = "account \"google\" {\n    provider = \"google\";\n    address = \"me@gmail.com\";\n    \
                 client_id = \"id-1\";\n    client_secret = \"hush \\\"1\\\"\";\n}\n";
    assert_eq!(config(), first);
    let mode = fs::metadata(daemon.config_path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // The same mailbox again is there; another of the same provider has a name of its own.
    let output = guided(&daemon, &[], &["me@gmail.com"]);
    assert!(!output.stdout.contains("client id"), "{output:?}");
    let answers = ["you@gmail.com", "id-2", "hush-2", "y"];
    let output = guided(&daemon, &[], &[&answers[..], &NO_STEPS].concat());
    assert_eq!(output.status, 0, "{output:?}");
    let second = first
        .replace("google\" {", "you@gmail.com\" {")
        .replace("me@", "you@");
    let second = second
        .replace("id-1", "id-2")
        .replace("hush \\\"1\\\"", "hush-2");
    assert_eq!(config(), format!("{first}\n{second}"));
    let kept = format!("{}~", daemon.config_path().display());
    assert_eq!(fs::read_to_string(kept).unwrap(), first);
    assert_eq!(daemon.run(&["check"]).ok(), "");
}

/// A program below `bin`, as if it were installed.
fn install(daemon: &Daemon, name: &str, script: &str) {
    let program = daemon.path("bin").join(name);
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_guide_names_the_mail_programs_and_prints_what_the_user_asks_for() {
    let daemon = nothing();
    fs::remove_file(daemon.config_path()).unwrap();
    for name in ["mbsync", "mpop", "msmtp"] {
        install(&daemon, name, "#!/bin/sh\n");
    }
    let answers = ["me@gmail.com", "id-1", "hush-1", "y", "n", "n", "n"];
    let output = guided(
        &daemon,
        &[],
        &[&answers[..], &["nonsense", "msmtp", ""]].concat(),
    );
    assert_eq!(output.status, 0, "{output:?}");
    let question =
        "Mail programs here: mbsync, mpop, msmtp. Name one to see what it needs [none]: ";
    assert_eq!(output.stdout.matches(question).count(), 3, "{output:?}");
    let printed = output.stdout.matches("\n==== msmtp: ~/.msmtprc").count();
    assert_eq!(printed, 1, "{output:?}");
    assert!(!output.stdout.contains("==== mbsync"), "{output:?}");
}

/// An issuer says nothing of mail servers.
#[test]
fn servers_that_are_not_known_are_left_to_the_user() {
    let domain = Domain::new();
    domain.metadata("https://login.example.org", json!({}));
    let issuer = "https://login.example.org";
    let output = domain
        .daemon
        .run(&["setup", "-p", "msmtp", issuer, "me@mail.test"]);
    assert_eq!(output.status, 0, "{output:?}");
    let said = "the mail servers aren't known: replace those of example.com with yours\n";
    assert_eq!(output.stderr, said);
    for line in ["host smtp.example.com", "user me@mail.test"] {
        assert!(output.stdout.lines().any(|it| it == line), "{output:?}");
    }
}

/// A unit that is installed is what starts the server, now and from then on.
#[test]
fn the_guide_enables_the_unit_that_is_installed() {
    let daemon = nothing();
    fs::remove_file(daemon.config_path()).unwrap();
    let called = daemon.path("called");
    let script = format!("#!/bin/sh\necho \"$@\" >'{}'\n", called.display());
    install(&daemon, "systemctl", &script);
    let answers = ["me@gmail.com", "id-1", "hush-1", "y", "y", "n", "n"];
    let output = guided(&daemon, &[], &answers);
    assert_eq!(output.status, 0, "{output:?}");
    let said = "Enabled pizauth.service. `loginctl enable-linger` keeps it without a login.";
    assert!(output.stdout.contains(said), "{output:?}");
    let asked = fs::read_to_string(called).unwrap();
    assert_eq!(asked, "--user --quiet enable --now pizauth.service\n");
    daemon.run(&["status"]).failed(69);
}

#[test]
fn the_guide_leaves_nothing_half_written() {
    let answers = ["me@gmail.com", "id-1", "hush-1", "y", "n", "n", "n"];
    for count in 0..answers.len() {
        let daemon = nothing();
        fs::remove_file(daemon.config_path()).unwrap();
        let output = guided(&daemon, &[], &answers[..count]);
        let said = ended(&output);
        assert!(
            said.starts_with("ERROR - the answers ended before"),
            "{said}"
        );
        assert_eq!(daemon.config_path().exists(), count >= 4, "{count}");
        if count >= 4 {
            assert_eq!(daemon.run(&["check"]).ok(), "");
        }
    }
    // What can't be read is left alone.
    let daemon = nothing();
    daemon.write_config("account \"broken\" {");
    let output = guided(&daemon, &[], &answers);
    assert_eq!(output.status, 1, "{output:?}");
    assert_eq!(
        fs::read_to_string(daemon.config_path()).unwrap(),
        "account \"broken\" {"
    );
}

#[test]
fn the_guide_registers_a_client_and_starts_the_server() {
    let mut domain = Domain::new();
    domain.metadata(
        "https://login.example.org",
        json!({
            "scopes_supported": ["openid", "offline_access"],
            "registration_endpoint": "https://login.example.org/register",
        }),
    );
    // It is asked by the guide, and for each registration.
    for _ in 0..2 {
        domain.metadata(
            "https://login.example.org",
            json!({
                "scopes_supported": ["openid", "offline_access"],
                "registration_endpoint": "https://login.example.org/register",
            }),
        );
    }
    let refused = json!({"error": "invalid_client_metadata", "error_description": "no such scope"});
    let registered = json!({
        "client_id": "registered-1",
        "client_secret": "hush-8",
        "registration_client_uri": "https://login.example.org/r/1",
        "registration_access_token": "hush-9",
    });
    for (status, body) in [(400, refused), (201, registered)] {
        let response = Response::new(status, "application/json", body.to_string());
        domain.web.script("/register", Scripted::Reply(response));
    }
    let daemon = &mut domain.daemon;
    fs::remove_file(daemon.config_path()).unwrap();
    let answers = [
        "https://login.example.org",
        "me@mail.test",
        "nonsense imaps://localhost:10993",
        "y",
        "opneid",
        "y",
        "openid offline_access",
        "y",
        "y",
        "y",
        "n",
        "n",
    ];
    let output = guided(daemon, &["--name", "work"], &answers);
    assert_eq!(output.status, 0, "{output:?}");
    let wrong = "`nonsense` is left out";
    assert!(output.stdout.contains(wrong), "{output:?}");
    assert!(output.stdout.contains("no such scope"), "{output:?}");
    assert!(!output.stdout.contains("hush"), "{output:?}");
    daemon.adopt();
    let status = daemon.run(&["status"]).done().to_owned();
    assert!(status.starts_with("work: "), "{status}");
    let text = fs::read_to_string(daemon.config_path()).unwrap();
    let config = config::parse("x", &text).unwrap();
    let registration = &config.accounts[0].registration;
    assert_eq!(registration.client_id, "registered-1");
    assert!(text.contains("hush-8") && text.contains("// with the token hush-9\n"));
    assert_eq!(registration.scopes, ["openid", "offline_access"]);
    let hint = ("login_hint".to_owned(), "me@mail.test".to_owned());
    assert!(registration.auth_uri_fields.contains(&hint));
}

#[test]
fn check_names_hooks_that_cannot_run_and_placeholders() {
    let daemon = nothing();
    let script = daemon.path("script.sh");
    fs::write(&script, "").unwrap();
    let (there, gone) = (script.display(), daemon.path("gone").display().to_string());
    let config = format!(
        "auth_notify_cmd = \"{there} now\";\n// startup_cmd = \"{gone}\";\nstartup_cmd = \"{gone}; true\";\n\
         token_event_cmd = \"true /nowhere\";\n\
         account \"a\" {{\n  provider = \"fastmail\";\n  client_id = \"your client id\";\n  \
         client_secret_cmd = \"~/no/such/script\";\n}}\n"
    );
    daemon.write_config(&config);
    let output = daemon.run(&["check"]);
    assert_eq!(output.status, 0, "{output:?}");
    let file = daemon.config_path().display().to_string();
    let none = "No such file or directory (os error 2)";
    assert_eq!(
        output.stderr,
        format!(
            "WARN - {file}:7: `client_id` is a placeholder: write your own, see `pizauth setup`\n\
             WARN - {file}:1: `auth_notify_cmd` can't run {there}: Permission denied (os error 13) (`chmod +x {there}` helps)\n\
             WARN - {file}:3: `startup_cmd` can't run {gone}: {none}\n\
             WARN - {file}:8: `client_secret_cmd` can't run ~/no/such/script: {none}\n"
        )
    );
}

#[test]
fn an_error_names_what_is_there() {
    let mut daemon = nothing();
    let accounts = "account \"work\" { provider = \"google\"; client_id = \"a\"; client_secret = \"b\"; }\n\
                    account \"play\" { provider = \"google\"; client_id = \"a\"; client_secret = \"b\"; }\n";
    let gone = daemon.config_path();
    fs::remove_file(&gone).unwrap();
    let said = daemon.run(&["show", "work"]);
    let hint = format!(
        "hint: there is no {}: begin with `pizauth setup`; it isn't at ",
        gone.display()
    );
    assert!(said.failed(69).contains(&hint), "{said:?}");
    let said = daemon.run(&["server"]);
    assert!(
        said.failed(1)
            .ends_with("\nhint: `pizauth setup` makes one\n"),
        "{said:?}"
    );
    daemon.write_config(accounts);
    daemon.start();
    for verb in ["show", "refresh", "revoke", "auth"] {
        for (name, hint) in [
            ("wrok", "did you mean `work`?"),
            ("elsewhere", "there are play, work"),
        ] {
            let output = daemon.run(&[verb, name]);
            let what = format!("ERROR - No account '{name}' in the configuration\nhint: {hint}\n");
            assert_eq!(output.failed(67), what);
        }
    }
    for (words, hint) in [
        ("stauts", "did you mean `pizauth status`?"),
        ("frob", "`pizauth --help` lists the commands"),
    ] {
        let output = daemon.run(&[words]);
        let what = format!("ERROR - unknown command `{words}`\nhint: {hint}\n");
        assert_eq!(output.failed(64), what);
    }
    assert_eq!(
        daemon.run(&["help", "show"]).done(),
        daemon.run(&["show", "--help"]).done()
    );
    assert_eq!(daemon.run(&["help"]).done(), daemon.run(&["--help"]).done());
    assert_eq!(
        daemon.run(&["version"]).done(),
        daemon.run(&["--version"]).done()
    );
}
