//! `pizauth git-credential`, as git itself calls it.

use std::fs;
use std::process::Command;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::support::command::{Output, Running};
use crate::support::daemon::Daemon;
use crate::support::http::{Pairs, Response};
use crate::support::mail::{MailServer, Manners, Protocol, Tls};
use crate::support::provider::{Gate, Provider, Scripted, TOKEN};

/// What git asks about a mail server.
const MAIL: &str = "protocol=smtp\nhost=mail.example:587\n\n";

/// A daemon whose commands, git among them, find no configuration of git's but `config`.
fn with_git(provider: &Provider) -> Daemon {
    let options = "auth_uri_fields = { \"login_hint\": \"me@example.com\" };";
    let mut daemon = Daemon::new(&provider.account_with("work", options));
    let config = daemon.path("gitconfig").display().to_string();
    daemon.env("GIT_CONFIG_GLOBAL", &config);
    daemon.env("GIT_CONFIG_NOSYSTEM", "1");
    // Nobody is there to be asked for a password.
    daemon.env("GIT_TERMINAL_PROMPT", "0");
    let binary = daemon.command(&[]).get_program().to_owned();
    let helper = format!(
        "[credential]\n\thelper = \"!'{}' git-credential work\"\n\
         [user]\n\tname = Me\n\temail = me@example.com\n",
        binary.to_str().unwrap()
    );
    fs::write(config, helper).unwrap();
    daemon.start();
    daemon
}

/// `git` with `args` in the daemon's world.
fn git(daemon: &Daemon, args: &[&str], input: &str) -> Output {
    let world = daemon.command(&[]);
    let mut git = Command::new("git");
    git.args(args)
        .env_clear()
        .envs(
            world
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(daemon.path("home"));
    let mut running = Running::start(&mut git);
    running.feed(input.as_bytes());
    running.finish()
}

/// The attributes that git or its helper printed; the time of expiry is checked and left out.
fn attributes(output: &str) -> Vec<&str> {
    let (expiry, rest): (Vec<&str>, Vec<&str>) = output
        .lines()
        .partition(|line| line.starts_with("password_expiry_utc="));
    let [expiry] = expiry[..] else {
        panic!("{output}");
    };
    let expiry: i64 = expiry.split_once('=').unwrap().1.parse().unwrap();
    let left = expiry - jiff::Timestamp::now().as_second();
    assert!((3500..=3600).contains(&left), "{left}");
    rest
}

#[test]
fn git_fills_in_the_user_and_the_token() {
    let provider = Provider::start();
    let daemon = with_git(&provider);
    daemon.sign_in("work");
    let helper = |args: &[&str], input: &str| {
        let output = daemon.run_with(
            &[&["git-credential"], args, &["work", "get"]].concat(),
            input.as_bytes(),
        );
        attributes(output.ok()).join(" ")
    };
    assert_eq!(helper(&[], MAIL), "username=me@example.com password=at-1");
    assert_eq!(
        helper(&["--user", "box"], MAIL),
        "username=box password=at-1"
    );
    let modern = "capability[]=authtype\nprotocol=https\nhost=git.example\n";
    assert_eq!(helper(&[], modern), "username=oauth2 password=at-1");
    assert_eq!(
        helper(&["-b"], modern),
        "capability[]=authtype authtype=Bearer credential=at-1"
    );
    assert_eq!(provider.requests(TOKEN).len(), 1);

    let filled = git(&daemon, &["credential", "fill"], MAIL);
    let filled = filled.ok();
    for line in [
        "protocol=smtp",
        "host=mail.example:587",
        "username=me@example.com",
        "password=at-1",
    ] {
        assert!(filled.lines().any(|it| it == line), "{filled}");
    }
    let named = git(
        &daemon,
        &["credential", "fill"],
        &format!("username=you\n{MAIL}"),
    );
    assert!(named.ok().contains("\nusername=you\n"), "{named:?}");
}

#[test]
fn git_gives_up_when_there_is_no_token_instead_of_asking_for_a_password() {
    let provider = Provider::start();
    let mut daemon = with_git(&provider);
    let output = git(&daemon, &["credential", "fill"], MAIL);
    let stderr = output.failed(128);
    assert!(
        stderr.starts_with("ERROR - Access token unavailable until authorised with URL http://")
            && stderr.contains("told us to quit"),
        "{stderr}"
    );
    let helper = |daemon: &Daemon, args: &[&str], input: &str| {
        let args = [&["git-credential"], args, &["get"]].concat();
        let output = daemon.run_with(&args, input.as_bytes());
        assert_eq!(output.stdout, "quit=1\n");
        (output.status, output.stderr)
    };
    assert_eq!(
        helper(&daemon, &["-u", "work"], MAIL),
        (
            77,
            "ERROR - Access token unavailable until authorised\n".into()
        )
    );
    assert_eq!(helper(&daemon, &["play"], MAIL).0, 67);
    daemon.sign_in("work");
    assert_eq!(
        helper(&daemon, &["work"], "protocol=http\nhost=git.example\n"),
        (
            1,
            "ERROR - git wants to send the token without TLS\nhint: use https in the URL\n".into()
        )
    );
    daemon.shutdown();
    assert_eq!(helper(&daemon, &["work"], MAIL).0, 69);
}

#[test]
fn git_waits_for_the_successor_of_an_expired_token() {
    let provider = Provider::start();
    let mut daemon = with_git(&provider);
    provider.set(|settings| settings.expires_in = Some(1));
    daemon.sign_in("work");
    let dump = daemon.dump();
    daemon.shutdown();
    provider.set(|settings| settings.expires_in = Some(3600));
    let gate = Gate::default();
    provider.script(
        TOKEN,
        Scripted::Gated(gate.clone(), Box::new(Scripted::Happy)),
    );
    daemon.start();
    daemon.run_with(&["restore"], &dump).ok();
    let expired = |output: &Output| output.stderr.contains("has expired");
    daemon.eventually(&["show", "work"], expired);
    let mut helper = daemon.spawn(&["git-credential", "work", "get"]);
    helper.feed(MAIL.as_bytes());
    daemon.log().wait_line("work: a client waits for a token");
    gate.open();
    let output = helper.finish();
    let wanted = ["username=me@example.com", "password=at-2"];
    assert_eq!(attributes(output.ok()), wanted);
}

#[test]
fn a_short_life_is_better_than_none() {
    let provider = Provider::start();
    let daemon = with_git(&provider);
    provider.set(|settings| settings.expires_in = Some(45));
    daemon.sign_in("work");
    let helper = |args: &[&str]| {
        let args = [&["git-credential", "work", "get"], args].concat();
        daemon.run_with(&args, MAIL.as_bytes())
    };
    let output = helper(&[]);
    assert!(output.ok().ends_with("\npassword=at-1\n"), "{output:?}");
    // Unless somebody insists.
    let output = helper(&["-m", "1m"]);
    assert_eq!((output.status, output.stdout.as_str()), (75, "quit=1\n"));
    assert_eq!(
        output.stderr,
        "ERROR - no token is valid so long: the provider lets them live 45s\n"
    );
}

#[test]
fn a_token_that_the_server_refused_is_replaced_once() {
    let provider = Provider::start();
    let mut daemon = with_git(&provider);
    daemon.sign_in("work");
    daemon.restart();
    let told = |verb: &str, token: &str| {
        let input = format!("protocol=smtp\nhost=h\nusername=me\npassword={token}\n\n");
        assert_eq!(git(&daemon, &["credential", verb], &input).ok(), "");
    };
    told("approve", "at-1");
    told("reject", "at-0");
    assert_eq!(daemon.token("work"), "at-1");
    assert_eq!(provider.requests(TOKEN).len(), 1);
    told("reject", "at-1");
    provider.wait_for(TOKEN, 2);
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    // Whoever was still using the old one changes nothing.
    told("reject", "at-1");
    let later = daemon.run_with(&["git-credential", "work", "frobnicate"], MAIL.as_bytes());
    assert_eq!(later.ok(), "");
    assert_eq!(daemon.token("work"), "at-2");
    assert_eq!(provider.requests(TOKEN).len(), 2);
}

const REPOSITORY: &str = "/project.git/info/refs";

/// A forge that asks who one is, and then has a branch `main`.
fn forge(provider: &Provider) -> String {
    let mut unauthorised = Response::new(401, "text/plain", "who are you?\n");
    let challenge = ("WWW-Authenticate".into(), "Basic realm=\"forge\"".into());
    unauthorised.headers.0.push(challenge);
    provider.script(REPOSITORY, Scripted::Reply(unauthorised));
    let kind = "application/x-git-upload-pack-advertisement";
    let refs = Response {
        status: 200,
        headers: Pairs::from([("Content-Type", kind)]),
        body: format!(
            "001e# service=git-upload-pack\n0000003e{} refs/heads/main\0\n0000",
            "a".repeat(40)
        )
        .into(),
    };
    provider.script(REPOSITORY, Scripted::Reply(refs));
    provider.url("/project.git")
}

/// What git has shown the forge of itself.
fn shown(provider: &Provider) -> Vec<Option<String>> {
    let requests = provider.requests(REPOSITORY);
    let shown = requests
        .iter()
        .map(|it| it.headers.header("Authorization").map(str::to_owned));
    shown.collect()
}

#[test]
fn git_fetches_from_a_forge_with_the_token() {
    let provider = Provider::start();
    let daemon = with_git(&provider);
    daemon.sign_in("work");
    let output = git(&daemon, &["ls-remote", &forge(&provider)], "");
    let branch = format!("{}\trefs/heads/main\n", "a".repeat(40));
    assert_eq!(output.ok(), branch);
    let basic = format!("Basic {}", STANDARD.encode("oauth2:at-1"));
    assert_eq!(shown(&provider), [None, Some(basic)]);
}

#[test]
fn a_git_that_can_sends_the_token_in_a_header_of_its_own() {
    let provider = Provider::start();
    let daemon = with_git(&provider);
    daemon.sign_in("work");
    let config = daemon.path("gitconfig");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        config,
        text.replace("git-credential work", "git-credential -b work"),
    )
    .unwrap();
    git(&daemon, &["ls-remote", &forge(&provider)], "").ok();
    let version = git(&daemon, &["version"], "");
    let mut numbers = version.ok().split(|c: char| !c.is_ascii_digit());
    let mut number = || {
        numbers
            .by_ref()
            .find_map(|it| it.parse::<u32>().ok())
            .unwrap()
    };
    let authorization = match (number(), number()) >= (2, 46) {
        true => "Bearer at-1".into(),
        false => format!("Basic {}", STANDARD.encode("oauth2:at-1")),
    };
    assert_eq!(shown(&provider), [None, Some(authorization)]);
}

/// The mechanism XOAUTH2 for Perl's Authen::SASL, of which many a version has none.
const XOAUTH2: &str = r#"
package Authen::SASL::Perl::XOAUTH2;
use parent 'Authen::SASL::Perl';
sub _order { 1 }
sub _secflags { 0 }
sub mechanism { 'XOAUTH2' }
sub client_start {
    my $self = shift;
    $self->{error} = undef;
    $self->{need_step} = 1;
    'user=' . $self->_call('user') . "\x01auth=Bearer " . $self->_call('pass') . "\x01\x01";
}
sub client_step { shift->{need_step} = 0; '' }
1;
"#;

/// A world with `git send-email` set up for `server`, and a mail to send; `None` where Debian's
/// package git-email, or its like, is missing.
fn with_send_email(provider: &Provider, server: &MailServer) -> Option<Daemon> {
    let mut daemon = with_git(provider);
    let usage = git(&daemon, &["send-email", "-h"], "");
    let there = usage.stdout.contains("--smtp-auth") || usage.stderr.contains("--smtp-auth");
    let perl = ["-MAuthen::SASL", "-MNet::SMTP", "-e", "1"];
    let perl = Command::new("perl").args(perl).output();
    if !there || !perl.is_ok_and(|it| it.status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "git send-email is missing"
        );
        eprintln!("git send-email is missing: nothing was tested");
        return None;
    }
    let module = daemon.path("perl/Authen/SASL/Perl/XOAUTH2.pm");
    fs::create_dir_all(module.parent().unwrap()).unwrap();
    fs::write(module, XOAUTH2).unwrap();
    let library = daemon.path("perl").display().to_string();
    daemon.env("PERL5LIB", &library);
    let mail = "From: Me <me@example.com>\nTo: you@example.com\nSubject: [PATCH] x\n\nx\n";
    fs::write(daemon.path("home/mail"), mail).unwrap();
    let set = |name: &str, value: &str| {
        let name = format!("sendemail.{name}");
        git(&daemon, &["config", "--global", &name, value], "").ok();
    };
    set("smtpServer", "127.0.0.1");
    set("smtpServerPort", &server.port.to_string());
    set("smtpUser", "me@example.com");
    set("smtpAuth", "XOAUTH2");
    set("confirm", "never");
    set("suppresscc", "all");
    Some(daemon)
}

fn response(token: &str) -> String {
    STANDARD.encode(format!(
        "user=me@example.com\x01auth=Bearer {token}\x01\x01"
    ))
}

#[test]
fn git_send_email_signs_in_with_the_token() {
    let provider = Provider::start();
    let manners = Manners::of(Protocol::Smtp, Tls::Never);
    let server = MailServer::start(manners.admit("me@example.com", "at-2"));
    let Some(mut daemon) = with_send_email(&provider, &server) else {
        return;
    };
    daemon.sign_in("work");
    daemon.restart();
    let send = ["send-email", "--quiet", "mail"];
    // The first token is refused, and git tells its helper so.
    let output = git(&daemon, &send, "");
    assert_ne!(output.status, 0, "{output:?}");
    assert!(
        server
            .heard()
            .contains(&format!("AUTH XOAUTH2 {}", response("at-1")))
    );
    provider.wait_for(TOKEN, 2);
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    git(&daemon, &send, "").ok();
    let heard = server.heard();
    let sent = format!("AUTH XOAUTH2 {}", response("at-2"));
    let signed_in = heard.iter().position(|line| *line == sent);
    let taken = heard.iter().position(|line| line == "DATA");
    assert!(signed_in.unwrap() < taken.unwrap(), "{heard:?}");
    assert_eq!(provider.requests(TOKEN).len(), 2);
}

#[test]
fn git_send_email_sends_nothing_without_a_token() {
    let provider = Provider::start();
    let server = MailServer::start(Manners::of(Protocol::Smtp, Tls::Never));
    let Some(daemon) = with_send_email(&provider, &server) else {
        return;
    };
    let output = git(&daemon, &["send-email", "mail"], "");
    // Its exit status is 0: git tells of no credential that failed.
    assert!(
        output
            .stderr
            .contains("ERROR - Access token unavailable until authorised with URL "),
        "{output:?}"
    );
    assert!(
        !server
            .heard()
            .iter()
            .any(|line| line.starts_with("AUTH") || line == "DATA")
    );
}
