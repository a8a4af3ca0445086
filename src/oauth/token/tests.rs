//! The verdicts as tables: one row a case, its number that of the list of known replies that the
//! token endpoint's client must get right.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use url::form_urlencoded;

use super::*;
use crate::{
    config::{ClientAuth, Header},
    secret::Mark,
};

use GrantType::{AuthorizationCode as Exchange, RefreshToken as Refresh};

/// Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples.
const WALL: Wall = Wall::from_millis(784_111_777_000);

const SENT_ONCE: &str = "; a code can be sent only once, so sign in again";

const NO_REFRESH_TOKEN: &str = "no refresh token: if the provider gives one at all, it may want \
     \"offline_access\" in scopes";

const JSON_1: &str =
    r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r2"}"#;

fn endpoint() -> Url {
    Url::parse("https://login.example/token").unwrap()
}

fn reply(status: u16, body: &[u8]) -> Reply {
    Reply {
        status,
        retry_after: None,
        date: None,
        location: None,
        body: body.to_vec().into(),
        ..Reply::default()
    }
}

fn judge_body(grant_type: GrantType, status: u16, body: &str) -> Verdict {
    let outcome = Outcome::Reply(reply(status, body.as_bytes()));
    judge(grant_type, &endpoint(), &[], &outcome, WALL)
}

/// A verdict, whole, as a text that is easy to compare.
fn show(verdict: &Verdict) -> String {
    let refused = |word: &str, refusal: &Refusal| match &refusal.hint {
        Some(hint) => format!("{word}: {} [{hint}]", refusal.text),
        None => format!("{word}: {}", refusal.text),
    };
    match verdict {
        Verdict::Granted(tokens) => {
            let life = tokens
                .expires_in
                .map_or("?".into(), |life| format!("{life:?}"));
            let refresh = tokens.refresh_token.as_ref().map_or("-", Secret::expose);
            let access = tokens.access_token.expose();
            let mut text = format!("granted: {access} {life} {refresh}");
            if let Some(hint) = tokens.no_refresh_token {
                text += &format!(" [no refresh token: {hint}]");
            }
            for warning in &tokens.warnings {
                text += &format!(" [{warning}]");
            }
            text
        }
        Verdict::LoginNeeded(refusal) => refused("login", refusal),
        Verdict::Parked(refusal) => refused("parked", refusal),
        Verdict::Transient {
            refusal,
            retry_after: None,
            ..
        } => refused("transient", refusal),
        Verdict::Transient {
            refusal,
            retry_after: Some(span),
            ..
        } => refused(&format!("transient {}s", span.as_secs()), refusal),
    }
}

/// Rows of (number, grant type, status, body, verdict).
fn check(rows: &[(u32, GrantType, u16, &str, &str)]) {
    for (number, grant_type, status, body, verdict) in rows {
        let judged = judge_body(*grant_type, *status, body);
        assert_eq!(show(&judged), *verdict, "row {number}: {body}");
    }
}

#[test]
fn rows_1_to_6_tokens_and_their_types() {
    check(&[
        (1, Refresh, 200, JSON_1, "granted: a 3600s r2"),
        (1, Exchange, 200, JSON_1, "granted: a 3600s r2"),
        (1, Refresh, 201, JSON_1, "granted: a 3600s r2"),
        (
            2,
            Refresh,
            200,
            &JSON_1.replace("Bearer", "bearer"),
            "granted: a 3600s r2",
        ),
        (
            2,
            Refresh,
            200,
            &JSON_1.replace("Bearer", "BEARER"),
            "granted: a 3600s r2",
        ),
        (
            3,
            Refresh,
            200,
            &JSON_1.replace("token_type", "x"),
            "granted: a 3600s r2 [the reply has no token_type; bearer is assumed]",
        ),
        (
            3,
            Refresh,
            200,
            &JSON_1.replace("\"Bearer\"", "null"),
            "granted: a 3600s r2 [the reply has no token_type; bearer is assumed]",
        ),
        (
            96,
            Refresh,
            200,
            &JSON_1.replace("Bearer", "BearerToken"),
            "granted: a 3600s r2",
        ),
        (
            96,
            Exchange,
            200,
            &JSON_1.replace("Bearer", "bearer_token"),
            "granted: a 3600s r2",
        ),
        (
            4,
            Refresh,
            200,
            &JSON_1.replace("Bearer", "mac"),
            "login: login.example: the token_type \"mac\" is not known here \
             [only bearer tokens can be used: have the provider register the client for them]",
        ),
        (
            4,
            Exchange,
            200,
            &JSON_1.replace("Bearer", "mac\\u001b"),
            "login: login.example: the token_type \"mac\" is not known here \
             [only bearer tokens can be used: have the provider register the client for them]",
        ),
        (
            4,
            Refresh,
            200,
            &JSON_1.replace("\"Bearer\"", "7"),
            "login: login.example: the token_type is no text [only bearer tokens can be used: have the provider register the client for them]",
        ),
    ]);
}

// Covers: H4
#[test]
fn rows_5_to_9_lifetimes() {
    for (number, members, life) in [
        (5, r#""expires_in":"3599""#, "3599s"),
        (5, r#""expires_in":" 3599 ""#, "3599s"),
        (6, r#""expires_in":3599.9"#, "3599s"),
        (6, r#""expires_in":"3599.9""#, "3599s"),
        (7, r#""x":0"#, "?"),
        (
            8,
            r#""expires_in":0"#,
            "? [expires_in is 0, which says nothing]",
        ),
        (
            8,
            r#""expires_in":0.5"#,
            "? [expires_in is 0.5, which says nothing]",
        ),
        (
            8,
            r#""expires_in":-1"#,
            "? [expires_in is -1, which says nothing]",
        ),
        (
            8,
            r#""expires_in":null"#,
            "? [expires_in is null, which says nothing]",
        ),
        (
            8,
            r#""expires_in":"soon""#,
            "? [expires_in is \"soon\", which says nothing]",
        ),
        (
            8,
            r#""expires_in":"nan""#,
            "? [expires_in is \"nan\", which says nothing]",
        ),
        (
            8,
            r#""expires_in":[1]"#,
            "? [expires_in is [1], which says nothing]",
        ),
        (9, r#""expires_in":1e20"#, "315360000s"),
        (
            9,
            r#""expires_in":99999999999999999999999999"#,
            "315360000s",
        ),
        (9, r#""expires_in":18446744073709551615"#, "315360000s"),
        (84, r#""expires_in":3600000,"expires_in_sec":3600"#, "3600s"),
        (84, r#""expires_in":3600000,"ext_expires_in":3600"#, "3600s"),
        (
            84,
            r#""expires_in":3600000,"expires_on":784115377"#,
            "3600s",
        ),
        (84, r#""expires_in":5184000,"expires":5184000"#, "5184000s"),
        (84, r#""expires_in":5184000"#, "5184000s"),
        (84, r#""expires_in":7200,"expires_in_sec":3600"#, "7200s"),
        (85, r#""expires_at":784115377"#, "3600s"),
        (85, r#""expires_at":"784115377.5""#, "3600s"),
        (85, r#""expires_at":784115377000"#, "3600s"),
        (85, r#""expires_at":"1994-11-06T09:49:37Z""#, "3600s"),
        (
            85,
            r#""expires_at":"1994-11-06T10:49:37.25+01:00""#,
            "3600s",
        ),
        (85, r#""expires_at":"1994-11-06T08:49:37Z""#, "?"),
        (85, r#""expires_at":"in an hour""#, "?"),
        // Other spellings, which never are an error.
        (7, r#""expires_in":60,"expires":7200"#, "60s"),
        (7, r#""expires_in_sec":3600"#, "3600s"),
        (7, r#""expires":"7200""#, "7200s"),
        (7, r#""expires":"tomorrow""#, "?"),
        (7, r#""expires_on":"784115377""#, "3600s"),
        (7, r#""expires_on":784111777"#, "?"),
        (7, r#""ext_expires_in":9"#, "?"),
    ] {
        let body = format!(r#"{{"access_token":"a","token_type":"bearer",{members}}}"#);
        let (life, warning) = life.split_once(' ').unwrap_or((life, ""));
        let verdict = format!("granted: a {life} - {warning}");
        let judged = judge_body(Refresh, 200, &body);
        assert_eq!(show(&judged), verdict.trim(), "row {number}: {members}");
    }
    let wall = Wall::from_millis(1_700_000_000_000);
    let outcome = Outcome::Reply(reply(
        200,
        b"access_token=a&token_type=bearer&expires=1700000060",
    ));
    let judged = judge(Refresh, &endpoint(), &[], &outcome, wall);
    assert_eq!(show(&judged), "granted: a 60s -");
}

#[test]
fn rows_10_to_14_refresh_tokens() {
    let without = r#"{"access_token":"a","token_type":"Bearer","expires_in":2592000}"#;
    let with = |value: &str| without.replace('}', &format!(",\"refresh_token\":{value}}}"));
    let warned = format!("granted: a 2592000s - [{NO_REFRESH_TOKEN}]");
    check(&[
        (10, Refresh, 200, without, "granted: a 2592000s -"),
        (11, Refresh, 200, &with("\"\""), "granted: a 2592000s -"),
        (11, Refresh, 200, &with("null"), "granted: a 2592000s -"),
        (
            11,
            Refresh,
            200,
            &with("7"),
            "granted: a 2592000s - [the refresh_token is no text, so it is ignored]",
        ),
        (12, Refresh, 200, &with("\"r3\""), "granted: a 2592000s r3"),
        (13, Exchange, 200, without, &warned),
        (13, Exchange, 200, &with("\"\""), &warned),
    ]);
}

#[test]
fn rows_15_and_16_scopes() {
    const MAIL: &str = "https://mail.google.com/";
    const IMAP: &str = "https://outlook.office365.com/IMAP.AccessAsUser.All";
    const GRANTED_IMAP: &str = "\"https://outlook.office.com/IMAP.AccessAsUser.All\"";
    for (number, requested, granted, lacking) in [
        (15, &["repo", "gist"][..], "\"repo,gist\"", ""),
        (15, &["repo"], "null", ""),
        (15, &["repo"], "\"\"", ""),
        (15, &["repo"], "7", ""),
        (15, &["repo"], "[\"gist\",\"repo\"]", ""),
        (15, &["Repo"], "\"rePO\"", ""),
        (
            15,
            &["a", "openid", "profile", "email", "offline_access"],
            "\"a\"",
            "",
        ),
        (15, &[MAIL], "\"https://mail.google.com\"", ""),
        (
            15,
            &["https://mail.google.com"],
            "\"https://mail.google.com/\"",
            "",
        ),
        (15, &[IMAP], GRANTED_IMAP, ""),
        (15, &["IMAP.AccessAsUser.All"], GRANTED_IMAP, ""),
        (
            15,
            &["https://graph.microsoft.com/Mail.Read"],
            "\"Mail.Read openid\"",
            "",
        ),
        (15, &["https://x.example/.default"], "\"a\"", ""),
        (
            15,
            &["https://x.example/a"],
            "\"https%3A%2F%2Fx.example%2Fa\"",
            "",
        ),
        (16, &["repo", "gist"], "\"repo\"", "gist"),
        (16, &["a", "b", "c"], "\"b\"", "a c"),
        (
            16,
            &["https://x.example/a"],
            "\"https://y.example/a\"",
            "https://x.example/a",
        ),
    ] {
        let body = format!(r#"{{"access_token":"a","token_type":"bearer","scope":{granted}}}"#);
        let requested: Vec<String> = requested.iter().map(|&scope| scope.into()).collect();
        let outcome = Outcome::Reply(reply(200, body.as_bytes()));
        let judged = judge(Refresh, &endpoint(), &requested, &outcome, WALL);
        let verdict = match lacking {
            "" => "granted: a ? -".to_owned(),
            _ => format!(
                "granted: a ? - [the provider did not grant all scopes; lacking: {lacking}]"
            ),
        };
        assert_eq!(show(&judged), verdict, "row {number}: {granted}");
    }
}

#[test]
fn rows_17_to_21_bodies_of_every_sort() {
    let mut extra = r#"{"ext_expires_in":1,"foci":"1","client_info":"x","user_id":7,"#.to_owned();
    for n in 0..40 {
        extra += &format!("\"m{n}\":{{\"access_token\":[{n},null,{{}}]}},");
    }
    extra += &JSON_1[1..];
    check(&[
        (17, Refresh, 200, &extra, "granted: a 3600s r2"),
        (
            18,
            Refresh,
            200,
            "access_token=a&scope=repo%2Cgist&token_type=bearer",
            "granted: a ? -",
        ),
        (
            19,
            Refresh,
            200,
            "access_token=a&expires=5184000",
            "granted: a 5184000s - [the reply has no token_type; bearer is assumed]",
        ),
        (
            18,
            Refresh,
            200,
            "token_type=bearer&access_token=a%2Fb\n",
            "granted: a/b ? -",
        ),
        (
            20,
            Refresh,
            200,
            &format!("\u{feff}{JSON_1}"),
            "granted: a 3600s r2",
        ),
        (
            21,
            Refresh,
            200,
            &format!("\r\n {JSON_1}\n"),
            "granted: a 3600s r2",
        ),
    ]);
}

#[test]
fn rows_22_to_24_access_tokens_that_are_none() {
    let id_token = r#"{"id_token":"x.y.z","token_type":"Bearer"}"#;
    let id_only = "parked: login.example gave an id_token but no access token \
                   [add a scope of the resource itself (the mail, say) to scopes]";
    let none = "login.example answered without an access token";
    let (transient, login) = (
        format!("transient: {none}"),
        format!("login: {none}{SENT_ONCE}"),
    );
    let bad = "login.example: the access token has characters that no token may have";
    let (bad_transient, bad_parked) = (format!("transient: {bad}"), format!("parked: {bad}"));
    check(&[
        (22, Refresh, 200, id_token, id_only),
        (22, Exchange, 200, id_token, id_only),
        (23, Refresh, 200, r#"{"access_token":""}"#, &transient),
        (23, Refresh, 200, r#"{"access_token":123}"#, &transient),
        (23, Refresh, 200, r#"{"access_token":null}"#, &transient),
        (23, Refresh, 200, r#"{"accessToken":"a"}"#, &transient),
        (23, Refresh, 200, "{}", &transient),
        (
            23,
            Refresh,
            204,
            "",
            "transient: login.example answered 204 with an empty reply",
        ),
        (23, Exchange, 200, r#"{"access_token":""}"#, &login),
        (23, Exchange, 200, r#"{"access_token":123}"#, &login),
        (
            24,
            Refresh,
            200,
            r#"{"access_token":"a\nb"}"#,
            &bad_transient,
        ),
        (
            24,
            Exchange,
            200,
            r#"{"access_token":"a\r\nb"}"#,
            &bad_parked,
        ),
        (
            24,
            Refresh,
            200,
            r#"{"access_token":"a b"}"#,
            &bad_transient,
        ),
        (24, Refresh, 200, r#"{"access_token":"é"}"#, &bad_transient),
        (
            24,
            Refresh,
            200,
            r#"{"access_token":"\u007f"}"#,
            &bad_transient,
        ),
        (24, Refresh, 200, "access_token=a%00", &bad_transient),
    ]);
}

// Covers: H4
#[test]
fn duplicates_of_what_matters_are_refused() {
    for name in ["access_token", "refresh_token", "error"] {
        let body = format!(r#"{{"access_token":"a","{name}":"b","{name}":"b"}}"#);
        let text = format!("login.example answered 200 with more than one {name}");
        let refresh = judge_body(Refresh, 200, &body);
        assert_eq!(show(&refresh), format!("transient: {text}"));
        let exchange = judge_body(Exchange, 200, &body);
        assert_eq!(show(&exchange), format!("login: {text}{SENT_ONCE}"));
    }
}

#[test]
fn rows_25_to_31_sign_in_again() {
    check(&[
        (
            25,
            Exchange,
            200,
            r#"{"error":"bad_verification_code","error_description":"The code is bad."}"#,
            "login: bad_verification_code: The code is bad.",
        ),
        (
            25,
            Exchange,
            200,
            "error=bad_verification_code",
            "login: bad_verification_code",
        ),
        (
            25,
            Refresh,
            200,
            r#"{"error":"bad_refresh_token","access_token":"a"}"#,
            "login: bad_refresh_token",
        ),
        (
            26,
            Refresh,
            200,
            r#"{"error":"invalid_code"}"#,
            "login: invalid_code",
        ),
        (
            27,
            Refresh,
            400,
            r#"{"error":"invalid_grant","error_description":"Token has been expired or revoked."}"#,
            "login: invalid_grant: Token has been expired or revoked.",
        ),
        (
            28,
            Refresh,
            400,
            r#"{"error":"invalid_grant","error_description":"reauth related error","error_subtype":"invalid_rapt"}"#,
            "login: invalid_grant: reauth related error \
             [the Workspace session policy of the administrator limits how long a sign-in lasts, \
             so this will recur: sign in again]",
        ),
        (
            29,
            Refresh,
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS50076: Due to a change,\r\nuse MFA.\r\nTrace ID: 0f3e2a10-1111-2222-3333-444455556666","error_codes":[50076],"suberror":"basic_action"}"#,
            "login: invalid_grant: AADSTS50076: Due to a change, use MFA. \
             Trace ID: 0f3e2a10-1111-2222-3333-444455556666 \
             [a second factor is wanted: sign in again and confirm it]",
        ),
        (
            29,
            Refresh,
            400,
            r#"{"error":"invalid_grant","suberror":"basic_action"}"#,
            "login: invalid_grant [a second factor is wanted: sign in again and confirm it]",
        ),
        (
            30,
            Refresh,
            400,
            r#"{"error":"interaction_required","error_description":"AADSTS50078: MFA expired"}"#,
            "login: interaction_required: AADSTS50078: MFA expired \
             [a second factor is wanted: sign in again and confirm it]",
        ),
        (
            31,
            Refresh,
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS53003: Blocked"}"#,
            "login: invalid_grant: AADSTS53003: Blocked \
             [the organisation's access policy blocked this sign-in: signing in again helps only \
             once an administrator allows this program, device or place]",
        ),
        // Only the error code decides here, so the number of a wrong configuration doesn't.
        (
            31,
            Refresh,
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS900144: x"}"#,
            "login: invalid_grant: AADSTS900144: x [the provider misses a parameter: check scopes]",
        ),
        (
            30,
            Refresh,
            401,
            r#"{"error":"login_required"}"#,
            "login: login_required",
        ),
        (
            30,
            Refresh,
            403,
            r#"{"error":"access_denied"}"#,
            "login: access_denied",
        ),
        (
            27,
            Exchange,
            400,
            r#"{"error":"invalid_grant","error_uri":"https://help.example/1"}"#,
            "login: invalid_grant [see https://help.example/1]",
        ),
    ]);
}

#[test]
fn rows_32_to_35_the_configuration_is_wrong() {
    let client = "[check client_id and client_secret; some providers (Google is one) want a \
                  secret even from desktop programs]";
    let bare = format!("parked: invalid_client {client}");
    let spa = "[register the redirect_uri under \"Mobile and desktop applications\", not as a \
               single-page application (SPA)]";
    let one = "[ask for the scopes of one resource only, in the spelling that the provider's \
               documentation has]";
    let error = |code: &str, number: u32| {
        format!(r#"{{"error":"{code}","error_description":"AADSTS{number}: x"}}"#)
    };
    for grant_type in [Refresh, Exchange] {
        check(&[
            (
                32,
                grant_type,
                401,
                &error("invalid_client", 7000222),
                "parked: invalid_client: AADSTS7000222: x [the client secret is wrong or has \
                 expired: get a new one from the registration and set client_secret]",
            ),
            (32, grant_type, 400, r#"{"error":"invalid_client"}"#, &bare),
            (
                32,
                grant_type,
                401,
                r#"{"error":"Invalid_Client"}"#,
                &bare
                    .replace("invalid", "Invalid")
                    .replace("_client [", "_Client ["),
            ),
            (
                33,
                grant_type,
                400,
                &error("invalid_client", 7000218),
                "parked: invalid_client: AADSTS7000218: x [set client_secret, or allow public \
                 client flows in the registration and register the redirect_uri under \"Mobile \
                 and desktop applications\"]",
            ),
            (
                34,
                grant_type,
                400,
                &error("invalid_request", 9002327),
                &format!("parked: invalid_request: AADSTS9002327: x {spa}"),
            ),
            (
                35,
                grant_type,
                400,
                &error("invalid_scope", 70011),
                &format!("parked: invalid_scope: AADSTS70011: x {one}"),
            ),
            (
                35,
                grant_type,
                400,
                &error("invalid_scope", 700022),
                &format!("parked: invalid_scope: AADSTS700022: x {one}"),
            ),
            (
                36,
                grant_type,
                400,
                &error("unauthorized_client", 700016),
                "parked: unauthorized_client: AADSTS700016: x [the provider doesn't know this \
                 client_id there: check client_id and the tenant in auth_uri and token_uri]",
            ),
            (
                33,
                grant_type,
                400,
                r#"{"error":"invalid_request","error_description":"client_secret is missing."}"#,
                "parked: invalid_request: client_secret is missing. [set client_secret: this \
                 provider wants one even from desktop programs]",
            ),
        ]);
    }
}

#[test]
fn rows_36_and_37_a_dead_refresh_token_by_other_names() {
    let allows = "[check what the client's registration allows]";
    check(&[
        (
            36,
            Refresh,
            400,
            r#"{"error":"unauthorized_client","error_description":"token was already used"}"#,
            "login: unauthorized_client: token was already used",
        ),
        (
            36,
            Exchange,
            400,
            r#"{"error":"unauthorized_client"}"#,
            &format!("parked: unauthorized_client {allows}"),
        ),
        (
            37,
            Refresh,
            400,
            r#"{"error":"invalid_request"}"#,
            "login: invalid_request",
        ),
        (
            37,
            Exchange,
            400,
            r#"{"error":"invalid_request"}"#,
            "login: invalid_request",
        ),
        (
            37,
            Refresh,
            400,
            r#"{"error":"unsupported_grant_type"}"#,
            "login: unsupported_grant_type",
        ),
        (
            37,
            Exchange,
            400,
            r#"{"error":"unsupported_grant_type"}"#,
            "parked: unsupported_grant_type [check token_uri, and which grants the registration \
             allows]",
        ),
    ]);
}

#[test]
fn rows_38_to_41_trouble_that_passes() {
    let portal = "[the network may want a sign-in of its own: open any web page to see; else \
                  check token_uri]";
    let proxy = "[a proxy or firewall may be in the way: check token_uri too]";
    let microsoft = "[trouble on Microsoft's side, which passes]";
    check(&[
        (
            38,
            Refresh,
            400,
            r#"{"error":"temporarily_unavailable"}"#,
            "transient: login.example answered 400: temporarily_unavailable",
        ),
        (
            38,
            Exchange,
            400,
            r#"{"error":"server_error"}"#,
            &format!("login: login.example answered 400: server_error{SENT_ONCE}"),
        ),
        (
            38,
            Refresh,
            400,
            r#"{"error":"invalid_request","error_description":"AADSTS90033: x"}"#,
            &format!(
                "transient: login.example answered 400: invalid_request: AADSTS90033: x {microsoft}"
            ),
        ),
        (
            38,
            Refresh,
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS50196: loop"}"#,
            "transient 300s: login.example answered 400: invalid_grant: AADSTS50196: loop \
             [too many requests in a row: is another program using the same sign-in?]",
        ),
        (
            38,
            Refresh,
            400,
            r#"{"error":"Access Denied","error_description":"Too many requests. Wait."}"#,
            "transient: login.example answered 400: Access Denied: Too many requests. Wait.",
        ),
        (
            39,
            Refresh,
            400,
            "",
            "transient: login.example answered 400 with an empty reply",
        ),
        (
            39,
            Refresh,
            400,
            r#"{"message":"bad\u0007request"}"#,
            "transient: login.example answered 400: bad request",
        ),
        (
            39,
            Refresh,
            403,
            "{}",
            "transient: login.example answered 403 without an error code",
        ),
        (
            39,
            Refresh,
            404,
            "Not Found",
            "transient: login.example answered 404 with something that is not a JSON object",
        ),
        (
            40,
            Refresh,
            403,
            "<html>blocked</html>",
            &format!(
                "transient: login.example answered 403 with a web page instead of JSON {proxy}"
            ),
        ),
        (
            41,
            Refresh,
            200,
            "<!DOCTYPE html><form action=/login>",
            &format!(
                "transient: login.example answered 200 with a web page instead of JSON {portal}"
            ),
        ),
        (
            41,
            Exchange,
            200,
            "<html>",
            &format!(
                "login: login.example answered 200 with a web page instead of JSON{SENT_ONCE} {portal}"
            ),
        ),
        (
            41,
            Refresh,
            511,
            "<html>",
            &format!(
                "transient: login.example answered 511: the network wants a sign-in of its own {portal}"
            ),
        ),
    ]);
}

#[test]
fn rows_42_to_44_somebody_on_the_way() {
    let portal = "[the network may want a sign-in of its own: open any web page to see; else \
                  check token_uri]";
    for (number, status, location, text) in [
        (
            42,
            302,
            Some("http://portal/?r=1"),
            "points to portal; it was not followed",
        ),
        (
            42,
            303,
            Some("//[::1]:8080/x"),
            "points to [::1]:8080; it was not followed",
        ),
        (
            43,
            307,
            Some("https://login.example/v2"),
            "points to login.example; it was not followed",
        ),
        (
            43,
            308,
            Some("/v2"),
            "points to login.example; it was not followed",
        ),
        (42, 302, Some("http://["), "points nowhere"),
        (42, 304, None, "points nowhere"),
    ] {
        // Not even tokens count in a reply that may come from somebody else.
        let outcome = Outcome::Reply(Reply {
            location: location.map(str::to_owned),
            ..reply(status, JSON_1.as_bytes())
        });
        let judged = judge(Refresh, &endpoint(), &[], &outcome, WALL);
        let verdict = format!("transient: login.example answered {status} and {text} {portal}");
        assert_eq!(show(&judged), verdict, "row {number}");
    }
    check(&[(
        44,
        Refresh,
        407,
        r#"{"error":"invalid_client"}"#,
        "transient: login.example answered 407: a proxy refused to pass the request on \
         [a proxy wants a name and password: set them in the proxy variable]",
    )]);
}

#[test]
fn rows_45_and_46_retry_after() {
    for (number, status, retry_after, body, verdict) in [
        (
            45,
            429,
            "120",
            "",
            "transient 120s: login.example answered 429 with an empty reply",
        ),
        (
            45,
            429,
            "120",
            r#"{"error":"invalid_grant"}"#,
            "transient 120s: login.example answered 429: invalid_grant",
        ),
        (
            46,
            503,
            "Sun, 06 Nov 1994 08:51:37 GMT",
            r#"{"error":"invalid_request"}"#,
            "transient 120s: login.example answered 503: invalid_request",
        ),
        (
            46,
            503,
            " 7200 ",
            "x",
            "transient 900s: login.example answered 503 with something that is not a JSON object",
        ),
        (
            38,
            400,
            "1000",
            r#"{"error":"x","error_description":"AADSTS50196: y"}"#,
            "transient 900s: login.example answered 400: x: AADSTS50196: y",
        ),
    ] {
        let outcome = Outcome::Reply(Reply {
            retry_after: Some(retry_after.into()),
            date: None,
            ..reply(status, body.as_bytes())
        });
        let judged = show(&judge(Refresh, &endpoint(), &[], &outcome, WALL));
        let judged = judged.split(" [").next().unwrap();
        assert_eq!(judged, verdict, "row {number}");
    }
}

#[test]
fn retry_after_in_every_form() {
    for (value, secs) in [
        ("120", Some(120)),
        ("901", Some(900)),
        ("99999999999999999999999", Some(900)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
        ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
        ("Sun Nov  6 08:49:47 1994", Some(10)),
        ("Wed, 21 Oct 2065 07:28:00 GMT", Some(900)),
        ("Sun, 06 Nov 1994 08:49:27 GMT", None),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("Sun, 99 Nov 1994 08:49:47 GMT", None),
        ("１２", None),
    ] {
        let span = parse_retry_after(value, WALL);
        assert_eq!(span.map(|span| span.as_secs()), secs, "{value}");
    }
}

#[test]
fn rows_47_to_51_errors_in_odd_places() {
    for status in [500, 502, 504] {
        let judged = show(&judge_body(Refresh, status, "<html>"));
        let text = format!("login.example answered {status} with a web page instead of JSON");
        assert_eq!(judged, format!("transient: {text}"));
        let judged = show(&judge_body(Exchange, status, "<html>"));
        assert_eq!(judged, format!("login: {text}{SENT_ONCE}"));
    }
    check(&[
        (
            47,
            Refresh,
            500,
            r#"{"error":"Internal Server Error","status":500}"#,
            "transient: login.example answered 500: Internal Server Error",
        ),
        (
            48,
            Refresh,
            500,
            r#"{"error":"invalid_grant"}"#,
            "login: invalid_grant",
        ),
        (
            48,
            Refresh,
            503,
            r#"{"error":"invalid_grant"}"#,
            "login: invalid_grant",
        ),
        (
            49,
            Refresh,
            404,
            r#"{"error":"Not Found"}"#,
            "parked: login.example answered 404: Not Found [check token_uri]",
        ),
        (
            49,
            Exchange,
            404,
            r#"{"error":"Not Found"}"#,
            "parked: login.example answered 404: Not Found [check token_uri]",
        ),
        (
            50,
            Refresh,
            400,
            r#"{"error":{"code":400,"message":"x"}}"#,
            "login: 400: x",
        ),
        (
            50,
            Refresh,
            400,
            r#"{"error":{"why":["a",1]}}"#,
            r#"transient: login.example answered 400: {"why":["a",1]} [a proxy or firewall may be in the way: check token_uri too]"#,
        ),
        (
            50,
            Refresh,
            503,
            r#"{"error":{"code":503,"message":"x"}}"#,
            "transient: login.example answered 503: 503: x",
        ),
        (
            51,
            Refresh,
            400,
            r#"{"errors":[{"errorType":"invalid_grant"}]}"#,
            "login: invalid_grant",
        ),
    ]);
}

/// What is no error code decides nothing: gateways say such things, too.
// Covers: 78
#[test]
fn rows_75_to_79_words_that_are_no_error_code() {
    const GATE: &str = " [a proxy or firewall may be in the way: check token_uri too]";
    for (number, status, body, words) in [
        (
            75,
            403,
            r#"{"error":"Forbidden","message":"Request blocked"}"#,
            "Forbidden: Request blocked",
        ),
        (
            75,
            403,
            r#"{"error":{"code":403,"message":"Request blocked"}}"#,
            "403: Request blocked",
        ),
        (76, 401, r#"{"error":"Unauthorized"}"#, "Unauthorized"),
        (76, 401, r#"{"error":"unauthorized"}"#, "unauthorized"),
        (
            77,
            400,
            r#"{"timestamp":"now","status":400,"error":"Bad Request","path":"/"}"#,
            "Bad Request",
        ),
        (77, 400, r#"{"error":true,"message":"no"}"#, "true: no"),
        (77, 403, r#"{"error":"bad_gateway"}"#, "bad_gateway"),
        (77, 401, r#"{"error":"maintenance"}"#, "maintenance"),
        (
            79,
            400,
            r#"{"error":"Realm does not exist"}"#,
            "Realm does not exist",
        ),
    ] {
        let text = format!("login.example answered {status}: {words}");
        for grant_type in [Refresh, GrantType::DeviceCode] {
            let outcome = Outcome::Reply(reply(status, body.as_bytes()));
            let judged = judge(grant_type, &endpoint(), &[], &outcome, WALL);
            assert_eq!(
                show(&judged),
                format!("transient: {text}{GATE}"),
                "row {number}"
            );
            let Verdict::Transient { cause, .. } = judged else {
                panic!("row {number}: {judged:?}");
            };
            assert_eq!(cause, Cause::Vague, "row {number}");
        }
        let judged = show(&judge_body(Exchange, status, body));
        assert_eq!(
            judged,
            format!("login: {text}{SENT_ONCE}{GATE}"),
            "row {number}"
        );
    }
    // Codes, in spite of their looks.
    for (body, words) in [
        (r#"{"error":"INVALID_GRANT"}"#, "login: INVALID_GRANT"),
        (
            r#"{"error":{"type":"OAuthException","message":"x"}}"#,
            "login: OAuthException: x",
        ),
        (r#"{"error":"novel_code_2"}"#, "login: novel_code_2"),
    ] {
        assert_eq!(show(&judge_body(Refresh, 400, body)), words);
    }
}

#[test]
fn rows_94_and_95_what_an_organisation_wants() {
    let error =
        |code: &str, text: &str| format!(r#"{{"error":"{code}","error_description":"{text}"}}"#);
    check(&[
        (
            94,
            Exchange,
            400,
            &error("access_denied", "AADSTS90095: ask"),
            "login: access_denied: AADSTS90095: ask [the organisation wants an administrator's approval: ask \
             for it on the page, or ask the administrator]",
        ),
        (
            95,
            Refresh,
            400,
            &error("invalid_grant", "AADSTS530036: no"),
            "login: invalid_grant: AADSTS530036: no [the organisation refuses sign-ins that began with a \
             device code: sign in with a browser (auth_uri)]",
        ),
        (
            31,
            Refresh,
            400,
            &error("invalid_grant", "AADSTS53000: no"),
            "login: invalid_grant: AADSTS53000: no [the organisation wants a device that it manages: sign \
             in from one, or ask an administrator]",
        ),
        (
            94,
            Refresh,
            400,
            r#"{"error":"admin_policy_enforced"}"#,
            "login: admin_policy_enforced [an administrator of the organisation has to allow this program]",
        ),
    ]);
}

#[test]
fn rows_52_to_54_no_reply_at_all() {
    let not_sent = Outcome::NotSent("connection\nrefused".into());
    let lost = Outcome::Lost("timed out".into());
    let lost_text = "login.example:8443: the request was sent but the reply was lost: timed out";
    for (number, grant_type, outcome, verdict) in [
        (
            52,
            Refresh,
            &not_sent,
            "transient: login.example:8443: connection refused".into(),
        ),
        (
            52,
            Exchange,
            &not_sent,
            "transient: login.example:8443: connection refused".into(),
        ),
        (53, Refresh, &lost, format!("transient: {lost_text}")),
        (
            54,
            Exchange,
            &lost,
            format!("login: {lost_text}{SENT_ONCE}"),
        ),
    ] {
        let endpoint = Url::parse("https://login.example:8443/token").unwrap();
        let judged = judge(grant_type, &endpoint, &[], outcome, WALL);
        assert_eq!(show(&judged), verdict, "row {number}");
    }
}

// Covers: H6
#[test]
fn rows_55_and_56_too_little_and_too_much() {
    let cut = "login.example answered 200 with a reply that is cut short";
    let much = "login.example answered 200 with a reply of more than 1 MiB";
    let long = format!("{{\"access_token\":\"{}", "a".repeat(2 * MAX_BODY_BYTES));
    check(&[
        (
            55,
            Refresh,
            200,
            &JSON_1[..40],
            &format!("transient: {cut}"),
        ),
        (
            55,
            Exchange,
            200,
            &JSON_1[..40],
            &format!("login: {cut}{SENT_ONCE}"),
        ),
        (56, Refresh, 200, &long, &format!("transient: {much}")),
        (
            56,
            Exchange,
            200,
            &long,
            &format!("login: {much}{SENT_ONCE}"),
        ),
    ]);
}

#[test]
fn google_hints_are_for_google() {
    let google = Url::parse("https://oauth2.googleapis.com/token").unwrap();
    let outcome = Outcome::Reply(reply(400, br#"{"error":"invalid_grant"}"#));
    let judged = judge(Refresh, &google, &[], &outcome, WALL);
    assert_eq!(
        show(&judged),
        "login: invalid_grant [if Google ends the sign-in every 7 days, the consent screen is in \
         testing: publish the app; changing the password ends it too]"
    );
}

fn registration() -> Registration {
    Registration {
        source: crate::config::TokenSource::Person,
        issuer: None,
        auth_uri: Url::parse("https://login.example/auth").ok().map(Arc::new),
        token_uri: Some(Arc::new(endpoint())),
        client_id: "client 1".into(),
        redirect_uri: Arc::new(Url::parse("http://localhost/").unwrap()),
        scopes: vec!["a".into()],
        auth_uri_fields: vec![("x".into(), "y".into())],
        token_uri_fields: vec![("resource".into(), "a&b".into())],
    }
}

#[test]
fn requests_carry_just_what_the_rfc_asks() {
    let secret = |text: &str| Secret::new(text.into());
    let registration = registration();
    let redirect = "http://localhost:7/";
    const EXCHANGE: &str = "grant_type=authorization_code&code=4%2F0%26&client_id=client+1\
                            &code_verifier=v&redirect_uri=http%3A%2F%2Flocalhost%3A7%2F";
    const REFRESH: &str = "grant_type=refresh_token&refresh_token=r%2B%C3%A9&client_id=client+1";
    for (client_secret, suffix) in [
        (None, ""),
        (Some(""), ""),
        (Some("s=&"), "&client_secret=s%3D%26"),
    ] {
        let client_secret = client_secret.map(secret).map(Arc::new);
        let credentials = Credentials {
            auth: ClientAuth::Body,
            secret: client_secret.as_ref(),
            headers: &[],
            under: registration.mark(),
        };
        let url = endpoint();
        let at = Endpoint {
            url: &url,
            under: registration.mark(),
        };
        let requester = Requester {
            endpoint: at,
            registration: &registration,
            credentials: &credentials,
        };
        let exchange = requester.exchange(&secret("4/0&"), &secret("v"), redirect);
        let refresh = requester.refresh(&secret("r+é"));
        for (request, form) in [(exchange, EXCHANGE), (refresh, REFRESH)] {
            assert_eq!(request.endpoint, endpoint());
            assert_eq!(
                request.form.expose(),
                format!("{form}&resource=a%26b{suffix}")
            );
            assert!(!format!("{request:?}").contains("client+1"));
        }
    }
}

/// xorshift64*, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

/// A body with a few bytes changed, dropped, doubled, or joined with another's.
fn mutate(random: &mut Random, bodies: &[&str]) -> Vec<u8> {
    const SPICE: [&[u8]; 8] = [
        b"\x1b[2J", b"\0", b"\xff", b"\"", b"{", b"\\u202e", b"1e308", b"\n",
    ];
    let mut body = bodies[random.below(bodies.len())].as_bytes().to_vec();
    for _ in 0..random.below(6) {
        let at = random.below(body.len() + 1);
        match random.below(5) {
            0 => body.truncate(at),
            1 => drop(body.splice(at..at, SPICE[random.below(SPICE.len())].iter().copied())),
            2 => body.extend_from_within(at..),
            3 => body.extend_from_slice(bodies[random.below(bodies.len())].as_bytes()),
            _ => {
                if let Some(byte) = body.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
            }
        }
    }
    body
}

// Covers: members, H4
#[test]
fn no_reply_makes_it_panic_or_say_anything_unsafe() {
    const CANARY: &str = "eyJhbGciOiJub25lIn0eyJzdWIiOiIxMjM0NTY3ODkwIn0c2lnbmF0dXJl";
    let success = JSON_1.replace("\"a\"", &format!("\"{CANARY}\""));
    let echo =
        format!(r#"{{"error":"invalid_request","error_description":"refresh_token={CANARY}"}}"#);
    let nested = format!(r#"{{"error":{{"request":["{CANARY}"],"code":"x"}},"errors":[]}}"#);
    let form = format!("access_token={CANARY}&expires=1&scope=a%0ab&error=");
    let bodies = [
        &*success,
        &echo,
        &nested,
        &form,
        "<html>",
        "{\"error\":\"\\u001b\"}",
        "",
    ];
    let mut random = Random(0x5eed_1e55_c0ff_ee01);
    for _ in 0..20_000 {
        let body = mutate(&mut random, &bodies);
        let outcome = Outcome::Reply(Reply {
            status: [200, 200, 200, 302, 400, 401, 404, 429, 503][random.below(9)],
            retry_after: Some(String::from_utf8_lossy(&body).into_owned()),
            date: None,
            location: Some(format!("http://{}/", String::from_utf8_lossy(&body))),
            body: body.into(),
            ..Reply::default()
        });
        let grant_type = [Exchange, Refresh][random.below(2)];
        let scopes = ["a\u{1b}".into(), "b".into()];
        let said = match judge(grant_type, &endpoint(), &scopes, &outcome, WALL) {
            Verdict::Granted(tokens) => {
                tokens.warnings.join(" ") + tokens.no_refresh_token.unwrap_or_default()
            }
            Verdict::LoginNeeded(refusal)
            | Verdict::Parked(refusal)
            | Verdict::Transient { refusal, .. } => {
                refusal.text + &refusal.hint.unwrap_or_default()
            }
        };
        assert!(!said.chars().any(char::is_control), "{said:?}");
        assert!(!said.contains(&CANARY[..45]), "{said:?}");
        if said.chars().count() < crate::text::MAX_FOREIGN_CHARS {
            assert_eq!(sanitize(&said), said);
        }
    }
}

#[test]
fn causes_of_transient_failures() {
    let body = |status, body: &str| Outcome::Reply(reply(status, body.as_bytes()));
    for (outcome, expected) in [
        (Outcome::NotSent("x".into()), Cause::Passing),
        (Outcome::Lost("x".into()), Cause::Lost),
        (body(400, ""), Cause::Unexplained),
        (body(403, "<html>"), Cause::Unexplained),
        (body(404, "{}"), Cause::Unexplained),
        (body(407, ""), Cause::Passing),
        (body(408, ""), Cause::Passing),
        (body(429, "{}"), Cause::Passing),
        (body(302, ""), Cause::Passing),
        (body(200, "<html>"), Cause::Passing),
        (body(500, ""), Cause::Passing),
        (
            body(400, r#"{"error":"temporarily_unavailable"}"#),
            Cause::Passing,
        ),
    ] {
        let verdict = judge(Refresh, &endpoint(), &[], &outcome, WALL);
        let Verdict::Transient { cause, .. } = verdict else {
            panic!("{outcome:?}: {verdict:?}");
        };
        assert_eq!(cause, expected, "{outcome:?}");
    }
}

/// A client that asks for itself has nobody to sign in, and keeps no refresh token.
#[test]
fn a_clients_own_token() {
    let own = GrantType::ClientCredentials;
    let gone = "login.example answered 503 with something that is not a JSON object";
    for (status, body, verdict) in [
        (200, JSON_1, "granted: a 3600s -"),
        (503, "down", &format!("transient: {gone}")),
        (
            400,
            r#"{"error":"unauthorized_client"}"#,
            "parked: unauthorized_client [check what the client's registration allows]",
        ),
        (
            400,
            r#"{"error":"invalid_scope","error_description":"AADSTS1002012: x"}"#,
            "parked: invalid_scope: AADSTS1002012: x [a client that asks for itself names one \
             scope: the resource's, with /.default at its end]",
        ),
        (
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS700027: x"}"#,
            "parked: invalid_client: AADSTS700027: x [the client's signature is refused: register \
             the certificate of its key with the client]",
        ),
        (
            400,
            r#"{"error":"invalid_request","error_description":"AADSTS90023: x"}"#,
            "parked: invalid_request: AADSTS90023: x [check client_secret, which a public client \
             can't have, and scopes]",
        ),
    ] {
        assert_eq!(show(&judge_body(own, status, body)), verdict, "{body}");
    }
    let endpoint = endpoint();
    let credentials = Credentials {
        auth: ClientAuth::Body,
        secret: None,
        headers: &[],
        under: crate::secret::Mark::of(b"ours"),
    };
    let at = Endpoint {
        url: &endpoint,
        under: crate::secret::Mark::of(b"ours"),
    };
    let mut registration = registration();
    let form = |registration: &Registration| {
        let requester = Requester {
            endpoint: at,
            registration,
            credentials: &credentials,
        };
        let request = requester.for_itself();
        request.form.expose().to_owned()
    };
    const FORM: &str = "grant_type=client_credentials&client_id=client+1";
    assert_eq!(
        form(&registration),
        format!("{FORM}&scope=a&resource=a%26b")
    );
    // What the config says itself isn't said twice.
    registration.token_uri_fields = vec![("scope".into(), "b".into())];
    assert_eq!(form(&registration), format!("{FORM}&scope=b"));
    registration.token_uri_fields.clear();
    registration.scopes.clear();
    assert_eq!(form(&registration), FORM);
}

/// What a request carries comes back in no text, in whatever form and member it is repeated.
#[test]
fn no_text_repeats_a_secret_of_the_request() {
    let secrets = [
        "1.AXoA-Zq7m0c93.kdWWp1x_Pp8-37chars-yy",
        "hunter2secr3",
        "an-api-key of theirs",
        "4n0ther.t0k3n 9",
        "extra/field+value",
    ];
    let [token, client, key, known, field] = secrets;
    let mark = Mark::of(b"ours");
    let refresh_token = Secret::new(token.into());
    refresh_token.bind(mark);
    let client_secret = Arc::new(Secret::new(client.into()));
    let headers =
        [("Origin", "https://app.example"), ("X-Api-Key", key)].map(|(name, value)| Header {
            name: name.into(),
            value: Arc::new(Secret::new(value.into())),
        });
    let registration = Registration {
        token_uri_fields: vec![("more".into(), field.into())],
        ..registration()
    };
    for auth in [ClientAuth::Basic, ClientAuth::Body] {
        let credentials = Credentials {
            auth,
            secret: Some(&client_secret),
            headers: &headers,
            under: mark,
        };
        let url = endpoint();
        let at = Endpoint {
            url: &url,
            under: mark,
        };
        let requester = Requester {
            endpoint: at,
            registration: &registration,
            credentials: &credentials,
        };
        let mut request = requester.refresh(&refresh_token);
        request.known.push(Arc::new(Secret::new(known.into())));
        for secret in secrets {
            let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let base64 = STANDARD.encode(format!("id:{secret}"));
            let middle = &secret[..11];
            for said in [secret, &encoded, &encoded.to_lowercase(), &base64, middle] {
                for (status, body) in [
                    (
                        400,
                        json!({"error": "invalid_grant", "error_description": said}),
                    ),
                    (400, json!({"error": said})),
                    (400, json!({"error": {said: 1}})),
                    (400, json!({"errors": [{"code": "e", "detail": said}]})),
                    (
                        400,
                        json!({"error": "e", "error_uri": format!("https://a.example/{encoded}")}),
                    ),
                    (500, json!({"message": said})),
                    (
                        200,
                        json!({"access_token": "at", "scope": format!("mail {said}"), "expires_in": said}),
                    ),
                    (200, json!({"access_token": "at", "token_type": said})),
                    (200, json!({"access_token": said, "error": said})),
                ] {
                    let outcome = Outcome::Reply(Reply {
                        sent: request.secrets(),
                        ..reply(status, body.to_string().as_bytes())
                    });
                    let verdict =
                        judge(Refresh, &url, &["mail".into(), "x".into()], &outcome, WALL);
                    let text = format!("{verdict:?}");
                    let shows = |text: &str| {
                        let text = text.to_lowercase();
                        let said = said.to_lowercase();
                        (0..=said.len() - 8).any(|at| text.contains(&said[at..at + 8]))
                    };
                    assert!(!shows(&text), "{body}: {text}");
                }
            }
        }
        // What is no secret is named as before.
        let words = "client 1 at https://app.example may not refresh_token a&b";
        let outcome = Outcome::Reply(Reply {
            sent: request.secrets(),
            ..reply(400, json!({"error": words}).to_string().as_bytes())
        });
        let verdict = judge(Refresh, &url, &[], &outcome, WALL);
        assert!(format!("{verdict:?}").contains(words), "{verdict:?}");
    }
}
