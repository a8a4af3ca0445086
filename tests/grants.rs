//! Accounts whose tokens need no sign-in.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use super::anywhere::{led_on, located};
use super::support::browser;
use super::support::command::{Output, Running};
use super::support::daemon::Daemon;
use super::support::hooks;
use super::support::provider::{PUSH, Provider, REVOKE, Scripted, TOKEN};

/// An account of a client that asks for itself.
fn own(provider: &Provider, options: &str) -> String {
    format!(
        "account \"work\" {{\n    grant = \"client_credentials\";\n    token_uri = \"{}\";\n    \
         client_id = \"client\";\n    scopes = [\"mail/.default\"];\n    {options}\n}}\n",
        provider.token_uri()
    )
}

const SECRET: &str = "client_secret = \"hush\";";

fn started(config: &str) -> Daemon {
    let mut daemon = Daemon::new(config);
    daemon.start();
    daemon
}

fn status(daemon: &Daemon) -> String {
    daemon.run(&["status"]).ok().to_owned()
}

#[test]
fn a_client_gets_its_own_token_and_nobody_signs_in() {
    let provider = Provider::start();
    provider.set(|settings| settings.client_secret = Some("hush".into()));
    let mut daemon = Daemon::new("");
    let events = daemon.record("events");
    let hook = events.option("token_event_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_EVENT"]);
    let revocation = format!("{SECRET} revocation_uri = \"{}\";", provider.url(REVOKE));
    daemon.write_config(&format!("{hook}{}", own(&provider, &revocation)));
    daemon.start();
    // Nobody has asked for it.
    assert_eq!(provider.requests(TOKEN).len(), 0);
    assert_eq!(
        status(&daemon),
        "work: No access token; `pizauth show work` obtains one\n"
    );
    // There has been none that could have expired.
    assert_eq!(
        daemon.run(&["show", "work"]).failed(75),
        "ERROR - No access token has been obtained yet. One has been requested\n"
    );
    assert_eq!(daemon.run(&["show", "-w", "1m", "work"]).ok(), "at-1\n");
    let form = provider.requests(TOKEN)[0].form.clone();
    let pairs: Vec<_> = form
        .0
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("grant_type", "client_credentials"),
            ("client_id", "client"),
            ("scope", "mail/.default"),
            ("client_secret", "hush"),
        ]
    );
    // One token serves all who ask, also across a reload and a restart in place.
    daemon.run(&["reload"]).ok();
    daemon.run(&["restart"]).ok();
    assert_eq!(daemon.token("work"), "at-1");
    let dump = daemon.dump();
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    // A dump brings the token back, and it is renewed as before.
    daemon.run(&["revoke", "work"]).done();
    assert_eq!(provider.wait_for(REVOKE, 1).len(), 1);
    daemon.run_with(&["restore"], &dump).ok();
    assert_eq!(daemon.token("work"), "at-1");
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-3\n");
    let told = [
        "token_new",
        "token_refreshed",
        "token_revoked",
        "token_refreshed",
    ];
    let told: Vec<_> = told.iter().map(|event| format!("work\t{event}")).collect();
    assert_eq!(events.wait_lines(4), told);
}

#[test]
fn auth_obtains_it_too() {
    let provider = Provider::start();
    let daemon = started(&own(&provider, SECRET));
    let obtained = || {
        let output = daemon.run(&["auth", "work"]);
        let good = output.stdout.starts_with("work: Active access token");
        assert!(good && output.status == 0, "{output:?}");
    };
    obtained();
    assert_eq!(daemon.token("work"), "at-1");
    // There is one already.
    obtained();
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

/// What passes is tried again; what doesn't stops it, with the next step, and ends no account.
#[test]
fn failures_say_what_to_do() {
    let provider = Provider::start();
    let error = |status: u16, error: &str, description: &str| {
        let body = serde_json::json!({ "error": error, "error_description": description });
        Scripted::json(status, &body)
    };
    let mut daemon = Daemon::new("");
    let errors = daemon.record("errors");
    let hook = errors.option("error_notify_cmd", &["PIZAUTH_MSG"]);
    daemon.write_config(&format!("{hook}{}", own(&provider, SECRET)));
    daemon.start();
    provider.script(
        TOKEN,
        error(
            401,
            "invalid_client",
            "AADSTS7000215: Invalid client secret provided.",
        ),
    );
    let said = daemon.run(&["auth", "work"]).failed(77).to_owned();
    let why = "invalid_client: AADSTS7000215: Invalid client secret provided.";
    assert!(
        said.contains(why) && said.contains("get a new one"),
        "{said}"
    );
    assert!(errors.wait_lines(1)[0].contains(why));
    let said = daemon.run(&["show", "work"]).failed(78).to_owned();
    assert!(said.contains(why), "{said}");
    assert!(status(&daemon).contains("stopped"), "{}", status(&daemon));
    // A grant that a sign-in would mend elsewhere stops it as well: no sign-in is started.
    provider.script(TOKEN, error(400, "invalid_grant", "no such grant"));
    let said = daemon.run(&["auth", "work"]).failed(77).to_owned();
    assert!(said.contains("invalid_grant: no such grant"), "{said}");
    daemon.run(&["show", "work"]).failed(78);
    // The user has set it right.
    daemon.run(&["reload"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-1\n");
    assert!(!daemon.log().text().contains("hush"));
}

#[test]
fn what_passes_is_tried_again() {
    let provider = Provider::start();
    provider.script(TOKEN, Scripted::reply(503, "text/plain", "down"));
    let daemon = started(&format!("refresh_retry = 1s;\n{}", own(&provider, SECRET)));
    let said = daemon.run(&["auth", "work"]).failed(77).to_owned();
    let again = "hint: it is tried again";
    assert!(
        said.contains("answered 503") && said.contains(again),
        "{said}"
    );
    daemon.run(&["show", "work"]).failed(75);
    assert_eq!(daemon.run(&["show", "-w", "1m", "work"]).ok(), "at-1\n");
}

/// Its endpoint may be the issuer's, and its secret a command's.
#[test]
fn an_issuer_and_a_command_do_for_it() {
    let provider = Provider::start();
    provider.set(|settings| settings.client_secret = Some("hush".into()));
    let config = format!(
        "account \"work\" {{ grant = \"client_credentials\"; issuer = \"{}\"; client_id = \"c\"; {} }}",
        provider.url(""),
        hooks::option("client_secret_cmd", "echo hush")
    );
    let daemon = started(&config);
    assert_eq!(daemon.run(&["show", "-w", "1m", "work"]).ok(), "at-1\n");
    let form = provider.requests(TOKEN)[0].form.clone();
    assert_eq!(form.get("scope"), None);
}

// ---- keys --------------------------------------------------------------------------------------

/// A key of tests/data/keys in the daemon's directory, which only its user may read.
fn key(daemon: &Daemon, name: &str) -> String {
    let from = format!("{}/tests/data/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    let path = daemon.path(name);
    fs::write(&path, fs::read(from).unwrap()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// What the claims of a JWT are, whoever has signed it.
fn claims(jwt: &str) -> serde_json::Value {
    let claims = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[test]
fn a_client_signs_instead_of_sending_a_secret() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let (file, certificate) = (key(&daemon, "rsa.pem"), key(&daemon, "certificate.pem"));
    let option = format!("client_key = \"{file}\"; client_certificate = \"{certificate}\";");
    daemon.write_config(&own(&provider, &option));
    daemon.start();
    assert_eq!(daemon.run(&["show", "-w", "1m", "work"]).ok(), "at-1\n");
    let form = provider.requests(TOKEN)[0].form.clone();
    let names: Vec<_> = form.0.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = "grant_type client_id scope client_assertion_type client_assertion";
    assert_eq!(names.join(" "), wanted);
    let jwt = &form.0[4].1;
    assert_eq!(claims(jwt)["aud"], provider.token_uri());
    assert_eq!(claims(jwt)["sub"], "client");
    // The key is read once, and each request has an assertion of its own, which no reply may repeat.
    fs::remove_file(&file).unwrap();
    let repeated = format!("no good: {jwt}");
    let error = json!({ "error": "temporarily_unavailable", "error_description": repeated });
    provider.script(TOKEN, Scripted::json(503, &error));
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["status"], |output| output.stdout.contains("no good"));
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    let last = provider.requests(TOKEN).pop().unwrap();
    assert_ne!(claims(&last.form.0[4].1)["jti"], claims(jwt)["jti"]);
    let log = daemon.log().text();
    assert!(!log.contains("PRIVATE") && !log.contains("eyJ"), "{log}");
    // A key that a command prints does as well.
    let file = key(&daemon, "ec.pem");
    let option = format!("client_secret_cmd = \"cat {file}\"; client_auth = private_key_jwt;");
    daemon.write_config(&own(&provider, &option));
    daemon.run(&["reload"]).ok();
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-3\n");
}

/// It is said before the provider refuses it in its own words, and another one serves at once.
#[test]
fn a_certificate_that_has_expired_is_said_to_have() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let (file, certificate) = (key(&daemon, "rsa.pem"), key(&daemon, "certificate.pem"));
    let good = fs::read(&certificate).unwrap();
    let mut old = rcgen::CertificateParams::default();
    old.not_before = rcgen::date_time_ymd(2019, 1, 1);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let old = old.self_signed(&rcgen::KeyPair::generate().unwrap());
    fs::write(&certificate, old.unwrap().pem()).unwrap();
    let option = format!("client_key = \"{file}\"; client_certificate = \"{certificate}\";");
    daemon.write_config(&own(&provider, &option));
    daemon.start();
    daemon.run(&["show", "work"]).failed(75);
    let said = "the certificate expired on 2020-01-01";
    daemon.eventually(&["status"], |output| output.stdout.contains(said));
    assert_eq!(provider.requests(TOKEN).len(), 0);
    fs::write(&certificate, good).unwrap();
    daemon.run(&["refresh", "work"]);
    assert_eq!(daemon.run(&["show", "-w", "1m", "work"]).ok(), "at-1\n");
}

/// The provider knows by it who leaves an authorization request there (RFC 9126, 2).
#[test]
fn a_client_signs_the_request_that_it_pushes() {
    let provider = Provider::start();
    provider.set(|settings| settings.pushed_only = true);
    let mut daemon = Daemon::new("");
    let option = format!("client_key = \"{}\";", key(&daemon, "rsa.pem"));
    daemon.write_config(&provider.issuer_account("work", &option));
    daemon.start();
    let on = led_on(&located(&daemon));
    assert_eq!(browser::visit(&on).status(), 200);
    assert_eq!(daemon.token("work"), "at-1");
    let (pushed, exchange) = (provider.requests(PUSH), provider.requests(TOKEN));
    let endpoints = [provider.url(PUSH), provider.token_uri()];
    for (request, endpoint) in [&pushed[0], &exchange[0]].into_iter().zip(endpoints) {
        let form = |name| request.form.get(name).unwrap_or_default();
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        assert_eq!(form("client_id"), "client-of-work");
        assert_eq!(form("client_assertion_type"), kind);
        let claims = claims(form("client_assertion"));
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("client-of-work"), &json!("client-of-work"))
        );
        assert_eq!(claims["aud"], endpoint);
        assert_eq!(request.form.get("client_secret"), None);
        assert_eq!(request.headers.header("Authorization"), None);
    }
    assert_eq!(pushed[0].form.get("code_challenge_method"), Some("S256"));
}

#[test]
fn a_service_account_signs_its_grant() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let file = key(&daemon, "service-account.json");
    let uri = provider.token_uri();
    let account = format!(
        "account \"work\" {{ grant = \"jwt_bearer\"; token_uri = \"{uri}\"; key_file = \"{file}\"; \
         subject = \"you@example.com\"; scopes = [\"https://mail.google.com/\"]; }}"
    );
    daemon.write_config(&account);
    daemon.start();
    let tokens = json!({ "access_token": "at-1", "token_type": "Bearer", "expires_in": 3599 });
    provider.script(TOKEN, Scripted::json(200, &tokens));
    assert_eq!(daemon.run(&["show", "-w", "1m", "work"]).ok(), "at-1\n");
    let form = provider.requests(TOKEN)[0].form.clone();
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    assert_eq!(form.0[0], ("grant_type".into(), grant.into()));
    assert_eq!((form.0.len(), form.0[1].0.as_str()), (2, "assertion"));
    let claims = claims(&form.0[1].1);
    assert_eq!(claims["iss"], "mail@p.iam.gserviceaccount.com");
    assert_eq!(claims["sub"], "you@example.com");
    assert_eq!(claims["scope"], "https://mail.google.com/");
    // What a deleted key gets.
    let error = json!({ "error": "invalid_grant", "error_description": "Invalid JWT Signature." });
    provider.script(TOKEN, Scripted::json(400, &error));
    daemon.run(&["refresh", "work"]).ok();
    let hint = "check the clock of this machine, and whether the key in key_file";
    daemon.log().wait_line(hint);
    assert!(daemon.log().text().contains("Invalid JWT Signature."));
    // Another subject is somebody else.
    daemon.write_config(&account.replace("you@", "other@"));
    daemon.run(&["reload"]).ok();
    assert!(status(&daemon).contains("No access token"));
}

#[test]
fn a_key_that_can_not_sign_says_why() {
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let open = key(&daemon, "ec.pem");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let spaced = daemon.path("it's a key.pem").display().to_string();
    for (number, (file, why)) in [
        (
            open.clone(),
            format!("others may read {open}; make it private with chmod go="),
        ),
        (
            key(&daemon, "encrypted.pem"),
            "the key is encrypted; `openssl pkcs8".into(),
        ),
        (key(&daemon, "short.pem"), "RSA of 2048 bits or more".into()),
        (spaced.clone(), "a key.pem\": No such file".into()),
    ]
    .into_iter()
    .enumerate()
    {
        daemon.write_config(&own(&provider, &format!("client_key = \"{file}\";")));
        if number == 0 {
            daemon.start();
        }
        daemon.run(&["reload"]).ok();
        daemon.run(&["refresh", "work"]).done();
        daemon.eventually(&["status"], |output| output.stdout.contains(&why));
        assert_eq!(provider.requests(TOKEN).len(), 0);
        // It is read again once it is right.
        if file == spaced {
            fs::rename(key(&daemon, "rsa.pem"), &spaced).unwrap();
        }
    }
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-1\n");
}

// ---- token_cmd --------------------------------------------------------------------------------

/// A daemon with an account whose command is `command`, and `global` before it.
fn by_command(global: &str, command: &str) -> Daemon {
    started(&format!(
        "{global}account \"work\" {{ {} }}\n",
        hooks::option("token_cmd", command)
    ))
}

/// A command that appends a line to a file for each run, and prints `token` with the number of lines.
fn counting(directory: &str, printed: &str) -> String {
    format!("echo >>'{directory}/runs'; n=$(wc -l <'{directory}/runs'); printf '{printed}' $n")
}

#[test]
fn a_command_is_run_once_for_all_who_ask() {
    let mut daemon = Daemon::new("");
    let directory = daemon.path("").display().to_string();
    let printed = r#"{"accessToken":"at-%d","expires_in":3600,"tokenType":"Bearer"}"#;
    let option = hooks::option("token_cmd", &counting(&directory, printed));
    let config = format!("account \"work\" {{ {option} }}\n");
    daemon.write_config(&config);
    daemon.start();
    let status = |daemon: &Daemon| daemon.run(&["status"]).ok().to_owned();
    let absent = "work: No access token; `pizauth show work` obtains one\n";
    assert_eq!(status(&daemon), absent);
    let waiting: Vec<_> = (0..3)
        .map(|_| daemon.spawn(&["show", "-w", "1m", "work"]))
        .collect();
    for waits in waiting {
        assert_eq!(waits.finish().ok(), "at-1\n");
    }
    assert!(status(&daemon).contains("Active access token (valid for 5"));
    // It is kept over a reload and a restart, and in a dump.
    daemon.run(&["reload"]).ok();
    daemon.run(&["restart"]).ok();
    assert_eq!(daemon.token("work"), "at-1");
    let dump = daemon.dump();
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    // There is nobody to tell.
    assert_eq!(daemon.run(&["revoke", "work"]).ok(), "");
    assert_eq!(status(&daemon), absent);
    daemon.run_with(&["restore"], &dump).ok();
    assert_eq!(daemon.token("work"), "at-1");
    // Another command is another source: what the first has printed is not its token.
    daemon.write_config(&config.replace("echo", ": ; echo"));
    daemon.run(&["reload"]).ok();
    assert_eq!(daemon.run(&["show", "-w", "1m", "work"]).ok(), "at-3\n");
}

/// Each of these is an error that says what to do; none of them ends the account.
#[test]
fn a_command_that_prints_no_token_says_why() {
    for (command, status, said) in [
        ("true", 75, "token_cmd printed nothing"),
        ("printf 'one\\ntwo\\n'", 75, "printed 2 lines"),
        ("printf 'Password: '", 75, "a question instead of a token"),
        (
            "echo '{\"token\":\"t\",\"expiry\":\"2001-01-01T00:00:00Z\"}'",
            75,
            "a token that has expired",
        ),
        (
            "echo no >&2; exit 1",
            75,
            "token_cmd exited with status 1: no",
        ),
        ("kill -9 $$", 75, "token_cmd was ended by signal 9"),
        (
            "echo sign in first >&2; exit 77",
            78,
            "token_cmd exited with status 77: sign in first",
        ),
        ("exit 78", 78, "token_cmd exited with status 78"),
    ] {
        let daemon = by_command("", command);
        let failed = daemon.run(&["auth", "work"]).failed(77).to_owned();
        assert!(failed.contains(said), "{command}: {failed}");
        let shown = daemon.run(&["show", "work"]).failed(status).to_owned();
        assert!(shown.contains(said), "{command}: {shown}");
    }
}

/// It reads no terminal and nobody's input, and ends when the server does.
#[test]
fn a_command_that_asks_hears_nothing() {
    let daemon = by_command("", "read -r line; printf '%s' \"got<$line>\"");
    assert_eq!(daemon.run(&["show", "-w", "1m", "work"]).ok(), "got<>\n");
}

// ---- import -----------------------------------------------------------------------------------

/// A refresh token that another program has, and the provider that it is of.
fn elsewhere() -> (Provider, Daemon) {
    let provider = Provider::start();
    provider.set(|settings| settings.rotate = false);
    let daemon = started(&provider.account("work"));
    daemon.sign_in("work");
    daemon.run(&["revoke", "--local", "work"]).done();
    (provider, daemon)
}

#[track_caller]
fn assert_authorised(output: &Output) {
    let said = (output.status, output.stdout.as_str());
    assert_eq!(said, (0, "work: authorised\n"), "{output:?}");
}

#[test]
fn a_refresh_token_of_another_program_is_proved_and_kept() {
    let (provider, daemon) = elsewhere();
    let output = daemon.run_with(
        &["import", "work"],
        br#"{"access_token":"old","refresh_token":"rt-1","expires_in":1}"#,
    );
    assert_authorised(&output);
    let must = "the program that the token comes from must not use it any more: remove it there\n";
    assert_eq!(output.stderr, must);
    assert_eq!(daemon.token("work"), "at-2");
    let form = &provider.requests(TOKEN)[1].form;
    assert_eq!(form.get("refresh_token"), Some("rt-1"));
    // It is one as any other now: nothing takes its place, and a dump has it.
    let again = daemon.run_with(&["import", "work"], br#"{"refresh_token":"rt-9"}"#);
    let said = again.failed(1);
    assert!(said.contains("the account has tokens that work"), "{said}");
    let dump = daemon.dump();
    daemon.run(&["revoke", "--local", "work"]).done();
    daemon.run_with(&["restore"], &dump).ok();
    assert_eq!(daemon.token("work"), "at-2");
    assert!(!daemon.log().text().contains("rt-1"));
}

#[test]
fn what_can_not_be_imported_says_why() {
    let (provider, daemon) = elsewhere();
    for (input, status, what) in [
        (&b""[..], 64, "this is empty, or cut short"),
        (
            b"{\"refresh_token\":\"rt-",
            64,
            "this is empty, or cut short",
        ),
        (b"-----BEGIN PGP MESSAGE-----\n", 64, "this is encrypted"),
        (
            b"{\"access_token\":\"at-1\"}",
            64,
            "there is no refresh_token in it",
        ),
        // Foreign, or used before.
        (
            b"{\"refresh_token\":\"rt-x\"}",
            77,
            "invalid_grant: no such refresh token",
        ),
    ] {
        let said = daemon
            .run_with(&["import", "work"], input)
            .failed(status)
            .to_owned();
        assert!(said.contains(what) && !said.contains("rt-"), "{said}");
    }
    // Nothing is lost by that: the right one does.
    let right = br#"{"refresh_token":"rt-1"}"#;
    assert_authorised(&daemon.run_with(&["import", "work"], right));
    daemon.run_with(&["import", "nobody"], right).failed(67);
    // A provider that is out of reach costs nothing either.
    daemon.run(&["revoke", "--local", "work"]).done();
    provider.script(TOKEN, Scripted::reply(503, "text/plain", "down"));
    let said = daemon.run_with(&["import", "work"], br#"{"refresh_token":"rt-1"}"#);
    assert!(said.failed(77).contains("answered 503"), "{}", said.stderr);
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-3\n");
}

/// What email-oauth2-proxy has of a sign-in whose refresh token is rt-1, by the password hush.
const EMAIL_PROXY: &str = "[Server setup]

[IMAP-1993]
server_address = outlook.office365.com
server_port = 993
local_address = 127.0.0.1

[Account setup]

[me@example.com]
permission_url = https://login.microsoftonline.com/common/oauth2/v2.0/authorize
token_url = https://login.microsoftonline.com/common/oauth2/v2.0/token
oauth2_scope = https://outlook.office.com/IMAP.AccessAsUser.All offline_access
redirect_uri = http://localhost
client_id = c
token_salt = AAECAwQFBgcICQoLDA0ODw==
token_iterations = 100000
access_token = gAAAAA
access_token_expiry = 1790000000
refresh_token = gAAAAABrDNJFOMqGwB7ic_bPlYo456H1ujVAwIrUD_CUTffNgKbT_buP0PcVOfNdR4Fjhwv6RStDLI0tHkFFcIPZewGGkQyOXg==
last_activity = 1790000000
";

/// Each recipe, on what the program that it is for keeps.
#[test]
fn the_recipes_take_over_what_programs_keep() {
    let (_provider, daemon) = elsewhere();
    let mut daemon = daemon;
    let bin = daemon.path("bin");
    fs::create_dir(&bin).unwrap();
    let script = |name: &str, text: &str| {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    // What gpg would decrypt, and what oidc-gen would.
    script("gpg", "[ \"$1 $2\" = '--quiet --decrypt' ] && cat \"$3\"");
    script("oidc-gen", "[ \"$1\" = --print=home ] && cat oidc");
    symlink(env!("CARGO_BIN_EXE_pizauth"), bin.join("pizauth")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    daemon.env("PATH", &path);
    let file = |name: &str, text: &str| {
        let path = daemon.path(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mutt = file(
        "mutt",
        r#"{"registration": "microsoft", "authflow": "localhostauthcode", "email": "me@example.com", "access_token": "a", "access_token_expiration": "2026-01-01T00:00:00.000000", "refresh_token": "rt-1"}"#,
    );
    file(
        "oidc",
        r#"{"name": "home", "issuer_url": "https://op.example/", "client_id": "c", "client_secret": "", "refresh_token": "rt-1", "cert_path": "", "scope": "openid offline_access"}"#,
    );
    let ortie = file(
        "ortie",
        r#"{"access_token":"a","token_type":"Bearer","expires_in":3599,"refresh_token":"rt-1","scope":"mail","issued_at":1790000000}"#,
    );
    let answer = file(
        "answer",
        "protocol=https\nhost=git.example\nusername=oauth2\npassword=a\npassword_expiry_utc=4000000000\noauth_refresh_token=rt-1\n",
    );
    let git = file(
        "gitconfig",
        &format!("[credential]\n\thelper = \"!cat {answer} #\"\n"),
    );
    let proxy = file("emailproxy.config", EMAIL_PROXY);
    let recipes = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/import/");
    let mut all = vec![
        ("gpg.sh", vec!["work", &mutt]),
        ("oidc-agent.sh", vec!["work", "home"]),
        ("ortie.sh", vec!["work", "cat", &ortie]),
        ("git-credential-oauth.sh", vec!["work", "git.example"]),
    ];
    let mut python = Command::new("python3");
    let has_package = python.args(["-c", "import cryptography"]).output();
    if has_package.is_ok_and(|output| output.status.success()) {
        all.push((
            "email-oauth2-proxy.py",
            vec!["work", &proxy, "me@example.com"],
        ));
    }
    for (recipe, args) in all {
        let mut command = daemon.neighbour(&format!("{recipes}{recipe}"));
        command
            .args(args)
            .env("PATH", &path)
            .env("GIT_CONFIG_GLOBAL", &git);
        for (name, value) in daemon.command(&[]).get_envs() {
            if let Some(value) = value.filter(|_| name != "PATH") {
                command.env(name, value);
            }
        }
        let mut running = Running::start(&mut command);
        // The password of email-oauth2-proxy.
        running.feed(b"hush\n");
        let output = running.finish();
        println!("{recipe}");
        assert_authorised(&output);
        daemon.run(&["revoke", "--local", "work"]).done();
    }
}

// ---- what other programs ask for --------------------------------------------------------------

#[test]
fn kubectl_and_helpers_of_agents_get_what_they_read() {
    let provider = Provider::start();
    let daemon = started(&own(&provider, SECRET));
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let before = i64::try_from(since.as_secs()).unwrap();
    daemon.run(&["show", "-w", "1m", "work"]).ok();
    let read = |format: &str| -> serde_json::Value {
        let output = daemon.run(&["show", "-f", format, "work"]);
        serde_json::from_str(output.ok()).unwrap()
    };
    assert_eq!(read("headers"), json!({ "Authorization": "Bearer at-1" }));
    let mut credential = read("kubernetes");
    let expiry = credential["status"]["expirationTimestamp"].take();
    let expiry: jiff::Timestamp = expiry.as_str().unwrap().parse().unwrap();
    assert!((before..before + 4000).contains(&expiry.as_second()));
    assert_eq!(
        credential,
        json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": { "expirationTimestamp": null, "token": "at-1" },
        })
    );
    // A provider that doesn't say when it expires.
    provider.set(|settings| settings.expires_in = None);
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    assert_eq!(read("kubernetes")["status"], json!({ "token": "at-2" }));
}
