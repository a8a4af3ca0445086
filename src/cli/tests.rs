use std::ffi::OsString;

use super::{help::overview, *};
use crate::{
    error::{Exit, Failure},
    form::{Form, Format},
    wire::ShowArgs,
};

fn parsed(line: &str) -> Result<Verb, Failure> {
    parse(line.split_whitespace().map(OsString::from))
}

fn account(no_url: bool) -> ShowArgs {
    ShowArgs {
        account: "work".into(),
        no_url,
        ..ShowArgs::default()
    }
}

#[test]
fn command_lines_mean_what_the_manual_says() {
    for (line, verb) in [
        (
            "auth --qr --open --no-wait work",
            Verb::Auth(AuthOptions {
                account: "work".into(),
                open: true,
                qr: true,
                no_wait: true,
            }),
        ),
        ("dump", Verb::Dump(DumpOptions::default())),
        (
            "dump -fo x",
            Verb::Dump(DumpOptions {
                file: Some("x".into()),
                force: true,
            }),
        ),
        (
            "git-credential -b -w 5s --user me work get -m1m",
            Verb::GitCredential(GitCredentialOptions {
                token: ShowArgs {
                    wait_secs: Some(5),
                    min_valid_secs: Some(60),
                    form: Form {
                        user: Some("me".into()),
                        ..Form::default()
                    },
                    ..account(false)
                },
                operation: "get".into(),
                bearer: true,
            }),
        ),
        (
            "info",
            Verb::Info(InfoOptions {
                json: false,
                config: None,
            }),
        ),
        (
            "info -v -j -c x --verbose",
            Verb::Info(InfoOptions {
                json: true,
                config: Some("x".into()),
            }),
        ),
        (
            "import work",
            Verb::Import(ImportOptions {
                account: "work".into(),
            }),
        ),
        (
            "redirect",
            Verb::Redirect(RedirectOptions {
                address: None,
                account: None,
            }),
        ),
        (
            "redirect -a work a:/?b",
            Verb::Redirect(RedirectOptions {
                address: Some("a:/?b".into()),
                account: Some("work".into()),
            }),
        ),
        (
            "refresh work",
            Verb::Refresh(RefreshOptions {
                token: account(false),
            }),
        ),
        (
            "register --scope a:b -s c -n x -t y op.example",
            Verb::Register(RegisterOptions {
                issuer: "op.example".into(),
                scopes: vec!["a:b".into(), "c".into()],
                name: Some("x".into()),
                token_cmd: Some("y".into()),
            }),
        ),
        (
            "refresh -u work",
            Verb::Refresh(RefreshOptions {
                token: account(true),
            }),
        ),
        (
            "show work -u",
            Verb::Show(ShowOptions {
                token: account(true),
            }),
        ),
        (
            "show -- work",
            Verb::Show(ShowOptions {
                token: account(false),
            }),
        ),
        (
            "show -w 30s -m10m -f oauthbearer --user me --host=h --port 993 work",
            Verb::Show(ShowOptions {
                token: ShowArgs {
                    wait_secs: Some(30),
                    min_valid_secs: Some(600),
                    form: Form {
                        format: Format::Oauthbearer,
                        id_token: false,
                        user: Some("me".into()),
                        host: Some("h".into()),
                        port: Some(993),
                    },
                    ..account(false)
                },
            }),
        ),
        (
            "show --wait 1 --wait=45 work",
            Verb::Show(ShowOptions {
                token: ShowArgs {
                    wait_secs: Some(45),
                    ..account(false)
                },
            }),
        ),
        ("check", Verb::Check(CheckOptions::default())),
        (
            "check -c x.conf",
            Verb::Check(CheckOptions {
                config: Some("x.conf".into()),
                show: false,
            }),
        ),
        ("reload", Verb::Reload(ReloadOptions {})),
        ("restart", Verb::Restart(RestartOptions {})),
        ("restore", Verb::Restore(RestoreOptions {})),
        (
            "revoke --local work",
            Verb::Revoke(RevokeOptions {
                account: "work".into(),
                local: true,
            }),
        ),
        (
            "setup -c mutt --client=msmtp -n mine -p config me@mail.example",
            Verb::Setup(SetupOptions {
                target: "me@mail.example".into(),
                user: None,
                name: Some("mine".into()),
                print: Some("config".into()),
                clients: vec!["mutt".into(), "msmtp".into()],
            }),
        ),
        ("shutdown", Verb::Shutdown(ShutdownOptions { force: false })),
        (
            "shutdown -f",
            Verb::Shutdown(ShutdownOptions { force: true }),
        ),
        ("status", Verb::Status(StatusOptions { json: false })),
        ("status --json", Verb::Status(StatusOptions { json: true })),
        (
            "test work --user me -v imaps://a smtp://b",
            Verb::Test(TestOptions {
                token: ShowArgs {
                    form: Form {
                        user: Some("me".into()),
                        ..Form::default()
                    },
                    ..account(false)
                },
                verbose: true,
                urls: vec!["imaps://a".into(), "smtp://b".into()],
            }),
        ),
        (
            "tunnel -w 5m --user me work imaps://a",
            Verb::Tunnel(TunnelOptions {
                token: ShowArgs {
                    wait_secs: Some(300),
                    form: Form {
                        user: Some("me".into()),
                        ..Form::default()
                    },
                    ..account(false)
                },
                url: "imaps://a".into(),
            }),
        ),
        ("watch", Verb::Watch(WatchOptions { json: false })),
        ("watch -j", Verb::Watch(WatchOptions { json: true })),
        ("server", Verb::Server(ServerOptions::default())),
        (
            "server -dvvvv -c x.conf",
            Verb::Server(ServerOptions {
                config: Some("x.conf".into()),
                foreground: true,
                verbose: 4,
            }),
        ),
    ] {
        assert_eq!(parsed(line), Ok(verb), "{line}");
    }
}

#[test]
fn a_wrong_command_line_says_what_is_wrong() {
    for (line, what) in [
        ("", "no command given"),
        ("frob", "unknown command `frob`"),
        ("-x", "unknown option `-x`"),
        ("show", "no account given"),
        ("show a b", "unexpected argument `b`"),
        ("show -x a", "unknown option `-x`"),
        ("setup -n", "`-n` needs a value"),
        ("test", "no account given"),
        ("git-credential a", "no operation given"),
        ("git-credential a b c", "unexpected argument `c`"),
        ("dump x", "unexpected argument `x`"),
        ("server -c", "`-c` needs a value"),
        ("info --json=x", "`--json` takes no value, but there is `x`"),
        (
            "show -w soon a",
            "`soon` is no good value of `--wait`: it takes one whole number and a unit, such as \
             `90s`, `5m`, `2h`, `1d`",
        ),
        (
            "show -m 59m58s a",
            "`59m58s` is no good value of `--min-valid`: it takes one whole number and a unit, such \
             as `90s`, `5m`, `2h`, `1d`",
        ),
        (
            "show -f xml a",
            "`xml` is no good value of `--format`: it takes raw, bearer, headers, json, \
             kubernetes, xoauth2 or oauthbearer",
        ),
        (
            "show -f oauthbearer --port 65536 a",
            "`65536` is no good value of `--port`: it takes a number up to 65535",
        ),
        (
            "register -s \" x",
            "`\"` is no good value of `--scope`: it takes one scope, without spaces and quotes",
        ),
        (
            "show --user me a",
            "`--user` is for the formats xoauth2 and oauthbearer",
        ),
        (
            "show -f xoauth2 --host h a",
            "`--host` and `--port` are for the format oauthbearer",
        ),
    ] {
        let failure = parsed(line).unwrap_err();
        assert_eq!(
            (failure.exit, failure.what.as_str()),
            (Exit::Usage, what),
            "{line}"
        );
    }
}

#[test]
fn every_format_is_named_to_whoever_names_another() {
    let told = parsed("show -f x a").unwrap_err().what;
    let known = serde_json::from_str::<Format>("\"x\"")
        .unwrap_err()
        .to_string();
    let names: Vec<&str> = known.split('`').skip(3).step_by(2).collect();
    assert!(names.len() >= 7, "{known}");
    for name in names {
        assert!(told.contains(name), "{name}: {told}");
    }
}

#[test]
fn every_verb_of_the_table_is_understood_and_explained() {
    for spec in VERBS {
        let operands = spec.operands().map(|_| " work");
        let line = format!("{}{}", spec.name, operands.collect::<String>());
        let verb = parsed(&line).unwrap();
        assert!(!matches!(verb, Verb::Help(_)), "{}", spec.name);
        let Ok(Verb::Help(text)) = parsed(&format!("{} --help", spec.name)) else {
            panic!("no help for {}", spec.name);
        };
        let told = parsed(&format!("{} --version", spec.name)).unwrap();
        assert_eq!(told, parsed("-V").unwrap());
        assert!(text.contains(spec.summary) && text.contains(&synopsis(spec)));
        assert!(overview().contains(spec.summary));
    }
}
