//! Signing in from anywhere: every channel, and every way to prove who the client is.

use super::support::daemon::Daemon;
use super::support::hooks::{Record, option};
use super::support::http::Pairs;
use super::support::provider::{Provider, Recorded, TOKEN};

/// A daemon that runs with `config`.
fn started(config: &str) -> Daemon {
    let mut daemon = Daemon::new(config);
    daemon.start();
    daemon
}

fn header<'a>(request: &'a Recorded, name: &str) -> Option<&'a str> {
    request.headers.header(name)
}

fn names(form: &Pairs) -> Vec<&str> {
    form.0.iter().map(|(name, _)| name.as_str()).collect()
}

// ---- client authentication ----------------------------------------------------------------------

#[test]
fn basic_authentication_is_the_only_proof_and_goes_along_with_every_request() {
    let provider = Provider::start();
    provider.set(|settings| settings.client_secret = Some("s&c + é".into()));
    let daemon = started(&provider.account_with(
        "work",
        "client_secret = \"s&c + é\"; client_auth = basic; \
         token_uri_fields = { \"resource\": \"a\", \"resource\": \"b\" }; \
         token_uri_headers = { \"Origin\": \"https://a.example\", \"user-agent\": \"me/1\" };",
    ));
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-1");
    daemon.run(&["refresh", "work"]).ok();
    let requests = provider.wait_for(TOKEN, 2);
    assert_eq!(
        names(&requests[0].form),
        [
            "grant_type",
            "code",
            "code_verifier",
            "redirect_uri",
            "resource",
            "resource"
        ]
    );
    assert_eq!(
        names(&requests[1].form),
        ["grant_type", "refresh_token", "resource", "resource"]
    );
    for request in &requests {
        let basic = "Basic Y2xpZW50LW9mLXdvcms6cyUyNmMrJTJCKyVDMyVBOQ==";
        assert_eq!(header(request, "Authorization"), Some(basic));
        assert_eq!(header(request, "Origin"), Some("https://a.example"));
        assert_eq!(header(request, "User-Agent"), Some("me/1"));
    }
}

/// A command that prints what is in `file`, and writes down that it ran.
fn secret_cmd(daemon: &Daemon, record: &Record) -> String {
    let file = daemon.path("secret");
    let command = format!(
        "{}; cat '{}'",
        record.command(&["PIZAUTH_ACCOUNT"]),
        file.display()
    );
    option("client_secret_cmd", &command)
}

#[test]
fn a_command_gives_the_secret_once_and_its_failure_costs_nothing() {
    let provider = Provider::start();
    provider.set(|settings| settings.client_secret = Some("hush".into()));
    let mut daemon = Daemon::new("");
    let record = daemon.record("asked");
    let cmd = secret_cmd(&daemon, &record);
    daemon.write_config(&provider.account_with("work", &cmd));
    std::fs::write(daemon.path("secret"), "hush\nand more\n").unwrap();
    daemon.start();
    assert_eq!(record.lines(), [""; 0]);
    daemon.sign_in("work");
    assert_eq!(daemon.token("work"), "at-1");
    daemon.run(&["refresh", "work"]).ok();
    let requests = provider.wait_for(TOKEN, 2);
    for request in requests {
        assert_eq!(request.form.get("client_secret"), Some("hush"));
    }
    assert_eq!(record.lines(), ["work"]);
    assert!(!daemon.shutdown().contains("hush"));
}

#[test]
fn a_secret_that_can_not_be_had_is_a_passing_trouble_with_the_commands_words() {
    let provider = Provider::start();
    provider.set(|settings| settings.client_secret = Some("hush".into()));
    let mut daemon = Daemon::new("");
    let record = daemon.record("asked");
    let cmd = secret_cmd(&daemon, &record);
    daemon.write_config(&provider.account_with("work", &cmd));
    std::fs::write(daemon.path("secret"), "hush\n").unwrap();
    daemon.start();
    daemon.sign_in("work");
    // The provider says that the secret is wrong: the next request asks for it anew.
    provider.set(|settings| settings.client_secret = Some("hush2".into()));
    std::fs::remove_file(daemon.path("secret")).unwrap();
    daemon.run(&["refresh", "work"]).ok();
    daemon
        .log()
        .wait_line("refreshing has stopped: invalid_client");
    daemon.run(&["refresh", "work"]).ok();
    let line = daemon.log().wait_line("no client secret");
    assert!(
        line.contains("client_secret_cmd exited with status 1: "),
        "{line}"
    );
    assert!(line.contains("No such file"), "{line}");
    assert_eq!(daemon.token("work"), "at-1");
    std::fs::write(daemon.path("secret"), "hush2\n").unwrap();
    daemon.run(&["refresh", "work"]).ok();
    daemon.eventually(&["show", "work"], |output| output.stdout == "at-2\n");
    assert_eq!(record.lines(), ["work"; 3]);
    let log = daemon.shutdown();
    assert!(!log.contains("hush"), "{log}");
}
