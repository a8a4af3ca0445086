//! The examples for programs that have nothing to do with mail, run as those programs run them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::command::{Output, Running};
use crate::support::daemon::Daemon;
use crate::support::provider::{Provider, Scripted, TOKEN};
use crate::support::tls::{Authority, Front};

/// An account that is signed in, where programs find `pizauth` in their PATH.
struct Desk {
    provider: Provider,
    daemon: Daemon,
    path: String,
}

impl Desk {
    fn new() -> Self {
        let provider = Provider::start();
        let mut daemon = Daemon::new(&provider.account("work"));
        let bin = daemon.path("bin");
        fs::create_dir(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_pizauth"), bin.join("pizauth")).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        daemon.start();
        Desk {
            provider,
            daemon,
            path,
        }
    }

    /// Runs a program there.
    fn run(&self, program: &str, args: &[&str], input: &str) -> Output {
        let mut command = Command::new(program);
        let world = self.daemon.command(&[]);
        let world = world.get_envs();
        command
            .args(args)
            .env_clear()
            .envs(world.filter_map(|(name, value)| Some((name, value?))))
            .env("PATH", &self.path)
            .current_dir(self.daemon.path("home"));
        let mut running = Running::start(&mut command);
        running.feed(input.as_bytes());
        running.finish()
    }
}

fn example(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/beyond-mail")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(example(name)).unwrap()
}

/// Whether the program is on this machine; CI may do without, and says so.
fn is_there(program: &str, version: &str) -> bool {
    let mut command = Command::new(program);
    let outcome = command
        .arg(version)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if outcome.is_err() {
        println!("no {program} here: nothing is tested");
    }
    outcome.is_ok()
}

#[test]
fn kubectl_shows_the_id_token_to_its_cluster() {
    if !is_there("kubectl", "help") {
        return;
    }
    let desk = Desk::new();
    let claims = json!({ "sub": "1", "exp": jiff::Timestamp::now().as_second() + 3600 });
    let id_token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let extras = vec![("id_token".into(), id_token.clone().into())];
    (desk.provider).set(|settings| settings.token_extras = extras);
    desk.daemon.sign_in("work");
    // A cluster that is asked for one thing, behind TLS.
    let authority = Authority::new();
    let cluster = Front::start(desk.provider.port(), authority.certify("127.0.0.1"));
    let ca = desk.daemon.path("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let config = desk.daemon.path("kubeconfig");
    let ours = format!(
        "https://127.0.0.1:{}\n    certificate-authority: {}",
        cluster.port,
        ca.display()
    );
    let example = text("kubeconfig.yaml");
    let text = example.replace("https://kubernetes.example.com", &ours);
    assert_ne!(text, example);
    fs::write(&config, text).unwrap();
    const NODES: &str = "/api/v1/nodes";
    (desk.provider).script(NODES, Scripted::json(200, &json!({ "items": [] })));
    let kubeconfig = format!("--kubeconfig={}", config.display());
    let output = desk.run("kubectl", &[&kubeconfig, "get", "--raw", NODES], "");
    assert_eq!(output.ok(), r#"{"items":[]}"#);
    let requests = desk.provider.requests(NODES);
    let bearer = requests[0].headers.header("Authorization");
    assert_eq!(bearer, Some(&*format!("Bearer {id_token}")));
    // Without a token, it says what pizauth says.
    desk.daemon.run(&["revoke", "--local", "work"]).ok();
    let output = desk.run("kubectl", &[&kubeconfig, "get", "--raw", NODES], "");
    let why = "Access token unavailable until authorised";
    assert!(output.failed(1).contains(why), "{output:?}");
    assert_eq!(desk.provider.requests(NODES).len(), 1);
}

#[test]
fn docker_gets_its_credentials_by_its_protocol() {
    let desk = Desk::new();
    let program = example("docker-credential-pizauth").display().to_string();
    let helper = |operation: &str, input: &str| desk.run(&program, &[operation], input);
    let refused = |output: Output, what: &str| {
        // docker shows what its helper says on standard output.
        assert!(
            output.status == 1 && output.stdout.contains(what),
            "{output:?}"
        );
    };
    let get = || helper("get", "registry.example.com");
    refused(get(), "Access token unavailable until authorised");
    let odd =
        r#"{"access_token":"a\"\\t","token_type":"bearer","expires_in":3600,"refresh_token":"rt"}"#;
    (desk.provider).script(TOKEN, Scripted::reply(200, "application/json", odd));
    desk.daemon.sign_in("work");
    let credentials = json!({
        "ServerURL": "registry.example.com", "Username": "oauth2accesstoken", "Secret": "a\"\\t",
    });
    for server in ["registry.example.com", "https://registry.example.com/v2/\n"] {
        let output = helper("get", server);
        assert_eq!(
            serde_json::from_str::<Value>(output.ok()).unwrap(),
            credentials
        );
    }
    // Word for word what docker takes for "none".
    for server in [
        "registry.example",
        "https://example.com/registry.example.com",
        "\n",
    ] {
        let output = helper("get", server);
        assert_eq!(output.stdout, "credentials not found in native keychain\n");
        assert_eq!(output.status, 1);
    }
    let list: Value = serde_json::from_str(helper("list", "").ok()).unwrap();
    assert_eq!(list, json!({ "registry.example.com": "oauth2accesstoken" }));
    let stored = r#"{"ServerURL":"registry.example.com","Username":"me","Secret":"hush"}"#;
    refused(helper("store", stored), "there is nothing to store");
    refused(helper("", ""), "usage: ");
    // A token that the registry has refused isn't given once more.
    helper("erase", "registry.example.com").ok();
    desk.provider.wait_for(TOKEN, 2);
}

#[test]
fn a_client_of_mcp_gets_its_headers() {
    let desk = Desk::new();
    let config: Value = serde_json::from_str(&text("mcp.json")).unwrap();
    let command = config["mcpServers"]["example"]["headersHelper"].as_str();
    let helper = || desk.run("/bin/sh", &["-c", command.unwrap()], "");
    helper().failed(77);
    desk.daemon.sign_in("work");
    let headers: BTreeMap<String, String> = serde_json::from_str(helper().ok()).unwrap();
    let wanted = [("Authorization".to_owned(), "Bearer at-1".to_owned())];
    assert_eq!(headers, wanted.into());
}
