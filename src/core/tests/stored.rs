//! What is stored, or handed to another program, keeps its layout or gets another version.

use std::{env, fs, path::Path, time::Duration};

use super::bench::{
    Bench, HOOKS, access_only, busy, invalid_client, invalid_grant, lost, not_sent, reply, tokens,
};
use crate::{
    config,
    core::{
        CoreState, STATE_VERSION, Waiter,
        dump::{self, Dump},
    },
    oauth::token::Outcome,
    time::Instant,
};

/// The stored form of `version`, which must still be `text`. Write another one only once, for a
/// version that there hasn't been: PIZAUTH_WRITE_FORMAT=1 does.
fn golden(name: &str, version: u32, text: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core/tests");
    let file = dir.join(format!("{name}-{version}.json"));
    if !file.exists() && env::var_os("PIZAUTH_WRITE_FORMAT").is_some() {
        fs::write(&file, format!("{text}\n")).expect("a golden file");
    }
    let known = fs::read_to_string(&file).unwrap_or_default();
    for (number, (line, known)) in text.lines().zip(known.lines()).enumerate() {
        assert_eq!(
            line,
            known,
            "{name}, line {}: raise the version when the layout changes",
            number + 1
        );
    }
    assert_eq!(text.lines().count(), known.lines().count(), "{name}");
}

/// A core in which every state occurs that is handed over.
fn everything() -> Bench {
    let accounts = [
        "access", "code", "failing", "parked", "refused", "revoked", "rejected", "valid", "wanted",
    ];
    let accounts = accounts.map(|name| {
        format!(
            r#"account "{name}" {{ auth_uri = "https://{name}.example/auth"; client_id = "id";
                token_uri = "https://{name}.example/token"; scopes = ["mail"];
                revocation_uri = "https://{name}.example/revoke"; token_file = "/run/{name}"; }}"#
        )
    });
    let issuers = ["failed", "known", "late"].map(|name| {
        format!(r#"account "{name}" {{ issuer = "https://{name}.example"; client_id = "id"; }}"#)
    });
    let devices = ["device", "over"].map(|name| {
        format!(
            r#"account "{name}" {{ auth_uri = "https://d.example/auth"; client_id = "id";
            token_uri = "https://d.example/token"; device_auth_uri = "https://d.example/device"; }}"#
        )
    });
    let text = HOOKS.to_owned() + &[accounts.concat(), issuers.concat(), devices.concat()].concat();
    let mut bench = Bench::new(config::parse("test.conf", &text).expect("a config"));
    bench.log = false;
    for name in [
        "access", "failing", "parked", "revoked", "rejected", "valid", "wanted",
    ] {
        sign_in(&mut bench, name, &ending_in(1000));
    }
    refresh(&mut bench, "failing", &lost());
    refresh(&mut bench, "parked", &invalid_client());
    refresh(&mut bench, "rejected", &invalid_grant());
    refresh(&mut bench, "valid", &busy(90));
    refresh(&mut bench, "wanted", &ending_in(2000));
    bench.refresh("wanted");
    bench.feed(|core, cx| core.on(cx, "access", |it, env| it.revoke(env, None)));
    sign_in(&mut bench, "access", &access_only(3, 3600));
    bench.show("code");
    bench.code();
    bench.effects();
    bench.outcome("code", &not_sent());
    bench.show("refused");
    bench.denied();
    bench.show("refused");
    bench.show("device");
    bench.effects();
    let code = r#"{"device_code":"dc","user_code":"UC","verification_uri":"https://d.example/",
        "expires_in":900,"interval":5}"#;
    bench.outcome("device", &reply(200, code));
    bench.show("over");
    bench.effects();
    bench.outcome("over", &invalid_client());
    discoveries(&mut bench);
    bench.feed(|core, _| core.hold());
    bench.feed(|core, cx| core.on(cx, "revoked", |it, env| it.revoke(env, Some(Waiter(1)))));
    bench.effects();
    bench
}

/// Tokens of which the refresh token lives so many seconds.
fn ending_in(secs: u64) -> Outcome {
    let tokens = r#""access_token":"access1","refresh_token":"refresh1","expires_in":3600"#;
    // Until an hour after the bench begins.
    let id_token = r#""id_token":"e30.eyJleHAiOjE3NTAwMDM2MDB9.c2ln""#;
    let life = format!(r#""refresh_token_expires_in":{secs}"#);
    let body = format!(r#"{{{tokens},{id_token},"token_type":"bearer",{life}}}"#);
    reply(200, &body)
}

fn sign_in(bench: &mut Bench, name: &str, outcome: &Outcome) {
    bench.show(name);
    bench.code();
    bench.effects();
    bench.outcome(name, outcome);
    bench.effects();
}

fn refresh(bench: &mut Bench, name: &str, outcome: &Outcome) {
    bench.pass(10);
    bench.refresh(name);
    bench.effects();
    bench.outcome(name, outcome);
    bench.effects();
}

/// One issuer has answered, one has not, and one is still being asked.
fn discoveries(bench: &mut Bench) {
    bench.show("known");
    bench.effects();
    let document = r#"{"issuer":"https://known.example",
        "authorization_endpoint":"https://known.example/auth",
        "token_endpoint":"https://known.example/token"}"#;
    bench.discovered(&reply(200, document));
    bench.show("known");
    bench.code();
    bench.effects();
    bench.outcome("known", &tokens(4, 3600));
    bench.show("failed");
    bench.effects();
    bench.discovered(&not_sent());
    bench.show("late");
    bench.effects();
}

#[test]
fn a_handover_keeps_its_layout_or_gets_another_version() {
    let mut bench = everything();
    // A refresh token that says from when on it can be used, and of which the provider has said when
    // it ends.
    let mut dump = bench.saved(
        "over",
        Some("e30.eyJuYmYiOjE3NTAwMDA5MDB9.c2ln"),
        bench.now.instant,
    );
    dump.grants[0].refresh_ends = Some(bench.now.wall.after(Duration::from_secs(86_400)));
    dump.grants[0].other_user = Some("other@over.example".into());
    let sign_ins =
        r#"{"began":1749000000000,"lives":[{"secs":604800,"nanos":0}],"told":1750000000000}"#;
    dump.grants[0].sign_ins = serde_json::from_str(sign_ins).unwrap();
    assert_eq!(bench.restore(dump), 1);
    bench.effects();
    let text = serde_json::to_string_pretty(&bench.core.state(bench.now)).unwrap();
    for member in [
        "began",
        "ends",
        "id_token",
        "loaded",
        "lives",
        "other_user",
        "fixed",
        "told",
        "usable",
    ] {
        assert!(text.contains(&format!("\"{member}\": ")), "no {member}");
    }
    for variant in [
        "Code",
        "Discovering",
        "Exchanging",
        "Failed",
        "Failing",
        "Known",
        "Pending",
        "Rejected",
        "Waiting",
        "Wanted",
        "Over",
        "Err",
        "Ok",
        "At",
    ] {
        assert!(text.contains(&format!("\"{variant}\"")), "no {variant}");
    }
    assert!(text.contains("\"stopped\": 1750"), "none has stopped");
    golden("state", STATE_VERSION, &text);
    let state: CoreState = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string_pretty(&state).unwrap(), text);
}

#[test]
fn a_dump_keeps_its_layout_or_gets_another_version() {
    let mut bench = everything();
    let dump = bench.dump();
    let text = serde_json::to_string_pretty(&dump).unwrap();
    golden("dump", dump::VERSION, &text);
    let read: Dump = serde_json::from_str(&text).unwrap();
    assert_eq!(read, dump);
    let compact = serde_json::to_string(&dump).unwrap();
    assert_eq!(
        dump::open(&dump::seal_text(compact.as_bytes(), [1; 32])),
        Ok(dump)
    );
}

/// What a successor must not ask, say or believe a second time.
#[test]
fn a_successor_remembers_what_its_predecessor_has_said_and_seen() {
    let bench = everything();
    let text = serde_json::to_string(&bench.core.state(bench.now)).unwrap();
    let mut next = bench.clone();
    let (config, ports) = ((**bench.core.config()).clone(), bench.core.common.ports);
    next.core = crate::core::Core::new(config, ports);
    let state: CoreState = serde_json::from_str(&text).unwrap();
    next.feed(|core, cx| core.adopt(cx, state));
    next.log = false;
    next.effects();
    // The browser that comes late hears how its sign-in ended.
    let spent = bench.core.common.spent[0].state.expose().to_owned();
    next.state = spent;
    assert_eq!(next.code(), "known over: done");
    // The issuer that has failed isn't asked again before the floor allows it.
    let why = "discovering: no endpoints from https://failed.example: failed.example: no route \
               to host";
    assert_eq!(next.show("failed"), why);
    assert_eq!(next.effects(), [""; 0]);
    assert!(next.core.poll_timeout() > Some(Instant::from_millis(0)));
    // The user has been told that this provider gives no refresh token.
    for (bench, told) in [
        (&mut next, true),
        (&mut Bench::new((**bench.core.config()).clone()), false),
    ] {
        bench.pass(10);
        bench.refresh("access");
        bench.code();
        bench.effects();
        bench.outcome("access", &access_only(5, 3600));
        let effects = bench.effects();
        let errors = effects
            .iter()
            .any(|effect| effect.starts_with("error access"));
        assert_eq!(errors, !told, "{effects:?}");
    }
}
