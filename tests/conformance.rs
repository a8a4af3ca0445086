//! What the daemon makes of each answer of a token endpoint, end to end: the scripted provider
//! answers, and `show`, `status`, the hooks and the number of requests tell the outcome.
//!
//! The cases are data. Their numbers are those of the project's list of replies that are known
//! from the wild; src/oauth/token/tests.rs has the same numbers for the verdicts alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use serde_json::json;
use url::Url;

use crate::support::browser;
use crate::support::daemon::Daemon;
use crate::support::hooks::Record;
use crate::support::http::{Pairs, Response};
use crate::support::provider::{AUTHORIZE, Dormant, Gate, Provider, Recorded, Scripted, TOKEN};
use crate::support::wait;

/// What has to come of an answer.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// Tokens.
    Active {
        /// The access token that `show` prints.
        token: &'static str,
        /// Words in the line of `status`.
        status: &'static str,
        /// Words in the log, if the answer is odd.
        log: &'static str,
        /// The refresh token that is held then; empty for the one before.
        next: &'static str,
        /// Words that `error_notify_cmd` hears, if the user should do something.
        heard: &'static str,
    },
    /// Somebody has to sign in, and hears these words.
    Login(&'static str),
    /// The configuration is wrong, in these words.
    Parked(&'static str),
    /// It passes; these words, or one of these between bars, say what it was.
    Later(&'static str),
}

use Want::{Later, Login, Parked};

#[derive(Clone, Debug)]
struct Case {
    row: &'static str,
    answer: Scripted,
    /// What comes of it as the answer to a code, where any [`Want`] but `Active` means that the
    /// sign-in has failed.
    exchange: Option<Want>,
    /// What comes of it as the answer to a refresh.
    refresh: Option<Want>,
}

impl Case {
    fn account(&self) -> String {
        format!("row-{}", self.row)
    }

    fn path(&self) -> String {
        format!("{TOKEN}/{}", self.row)
    }

    /// What the account has before the refresh.
    fn first(&self, part: &str) -> String {
        format!("first-{part}-{}", self.row)
    }
}

/// Row 1's answer, from which many others differ in one place.
const ONE: &str =
    r#"{"access_token":"new-at","token_type":"Bearer","expires_in":7200,"refresh_token":"new-rt"}"#;

const WEB_PAGE: &str = "<!DOCTYPE html><title>Sign in to the network</title>";

const FOR_2_HOURS: &str = "valid for 1h 59m";
const FOR_1_HOUR: &str = "valid for 59m";
const UNKNOWN: &str = "valid until the provider says otherwise";

const ACTIVE: Want = Want::Active {
    token: "new-at",
    status: FOR_2_HOURS,
    log: "",
    next: "new-rt",
    heard: "",
};

/// Tokens, but not without a word in the log.
fn odd(log: &'static str) -> Want {
    active(FOR_2_HOURS, log, "new-rt")
}

fn active(status: &'static str, log: &'static str, next: &'static str) -> Want {
    Want::Active {
        token: "new-at",
        status,
        log,
        next,
        heard: "",
    }
}

/// Tokens that the user hears of, since nothing renews them.
fn short_lived(status: &'static str, log: &'static str) -> Want {
    Want::Active {
        token: "new-at",
        status,
        log,
        next: "",
        heard: "no refresh token came along (if the provider gives one at all",
    }
}

fn both(row: &'static str, answer: Scripted, want: Want) -> Case {
    Case {
        row,
        answer,
        exchange: Some(want),
        refresh: Some(want),
    }
}

fn refresh(row: &'static str, answer: Scripted, want: Want) -> Case {
    Case {
        exchange: None,
        ..both(row, answer, want)
    }
}

fn exchange(row: &'static str, answer: Scripted, want: Want) -> Case {
    Case {
        refresh: None,
        ..both(row, answer, want)
    }
}

/// A JSON body that is sent as it is written here.
fn body(status: u16, text: &str) -> Scripted {
    Scripted::reply(status, "application/json", text)
}

/// [`ONE`] with one thing replaced.
fn but(from: &str, to: &str) -> Scripted {
    assert!(ONE.contains(from), "{from}");
    body(200, &ONE.replace(from, to))
}

fn error(status: u16, code: &str, description: &str) -> Scripted {
    let text = json!({ "error": code, "error_description": description });
    Scripted::json(status, &text)
}

fn with_header(answer: Scripted, name: &str, value: &str) -> Scripted {
    match answer {
        Scripted::Reply(mut response) => {
            response.headers.0.push((name.into(), value.into()));
            Scripted::Reply(response)
        }
        other => panic!("{other:?} has no headers"),
    }
}

/// An answer that is compressed, in the way that `encoder` does it.
fn compressed<W>(
    answer: Scripted,
    encoder: fn(Vec<u8>, Compression) -> W,
    end: fn(W) -> io::Result<Vec<u8>>,
) -> Scripted
where
    W: Write,
{
    let Scripted::Reply(mut response) = answer else {
        panic!("{answer:?} has no body")
    };
    let mut encoder = encoder(Vec::new(), Compression::default());
    encoder.write_all(&response.body).expect("memory");
    response.body = end(encoder).expect("memory");
    Scripted::Reply(response)
}

fn gzip(answer: Scripted) -> Scripted {
    compressed(answer, GzEncoder::new, GzEncoder::finish)
}

/// Row 83: replies that are compressed though nobody asked.
fn codings() -> Vec<Case> {
    let coded = |answer, name: &str| with_header(answer, "Content-Encoding", name);
    let zlib = compressed(body(200, ONE), ZlibEncoder::new, ZlibEncoder::finish);
    let raw = compressed(body(200, ONE), DeflateEncoder::new, DeflateEncoder::finish);
    let refused = gzip(error(400, "invalid_grant", "the token is dead"));
    let bomb = Scripted::reply(200, "application/json", &" ".repeat(64 << 20));
    vec![
        both("83-gzip", coded(gzip(body(200, ONE)), "gzip"), ACTIVE),
        both("83-x-gzip", coded(gzip(body(200, ONE)), "x-gzip"), ACTIVE),
        both("83-unsaid", gzip(body(200, ONE)), ACTIVE),
        both("83-deflate", coded(zlib, "deflate"), ACTIVE),
        both("83-raw-deflate", coded(raw, "deflate"), ACTIVE),
        both(
            "83-error",
            coded(refused, "gzip"),
            Login("invalid_grant: the token is dead"),
        ),
        both(
            "83-bomb",
            coded(gzip(bomb), "gzip"),
            Later("a reply of more than 1 MiB"),
        ),
        both(
            "83-brotli",
            coded(body(200, ONE), "br"),
            Later("the content coding \"br\" is not supported"),
        ),
    ]
}

/// An HTTP date in so many seconds.
fn date_in(secs: i64) -> String {
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(secs);
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn forty_strangers() -> Scripted {
    let mut reply: serde_json::Map<_, _> = (0..40)
        .map(|n| {
            (
                format!("member_{n}"),
                json!({ "nested": [n, null, { "deep": "er" }] }),
            )
        })
        .collect();
    for (name, value) in [
        ("ext_expires_in", json!(9999)),
        ("foci", json!("1")),
        ("client_info", json!("eyJ1aWQiOiJ4In0")),
        ("user_id", json!(17)),
        ("access_token", json!("new-at")),
        ("token_type", json!("Bearer")),
        ("expires_in", json!(7200)),
        ("refresh_token", json!("new-rt")),
    ] {
        reply.insert(name.into(), value);
    }
    Scripted::json(200, &serde_json::Value::Object(reply))
}

/// Rows 1 to 9: types and lifetimes.
fn tokens() -> Vec<Case> {
    const UNTYPED: &str = "the reply has no token_type; bearer is assumed";
    const SAYS_NOTHING: &str = "which says nothing";
    let life = |text: &str| but("7200", text);
    let in_two_hours = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(7200);
    vec![
        both("1", body(200, ONE), ACTIVE),
        both("2-lower", but("Bearer", "bearer"), ACTIVE),
        both("2-upper", but("Bearer", "BEARER"), ACTIVE),
        both("3", but("token_type", "x"), odd(UNTYPED)),
        both("4", but("Bearer", "mac"), Login("is not known here")),
        both("96", but("Bearer", "BearerToken"), ACTIVE),
        both("5", life("\"3599\""), active(FOR_1_HOUR, "", "new-rt")),
        both("6", life("3599.9"), active(FOR_1_HOUR, "", "new-rt")),
        both(
            "7",
            but("\"expires_in\":7200,", ""),
            active(UNKNOWN, "", "new-rt"),
        ),
        both("8-zero", life("0"), active(UNKNOWN, SAYS_NOTHING, "new-rt")),
        both(
            "8-negative",
            life("-1"),
            active(UNKNOWN, SAYS_NOTHING, "new-rt"),
        ),
        both(
            "8-null",
            life("null"),
            active(UNKNOWN, SAYS_NOTHING, "new-rt"),
        ),
        both(
            "8-soon",
            life("\"soon\""),
            active(UNKNOWN, SAYS_NOTHING, "new-rt"),
        ),
        both(
            "9",
            life("1e20"),
            active("valid for 3649d 23h", "", "new-rt"),
        ),
        both("84", life(r#"7200000,"expires_in_sec":7200"#), ACTIVE),
        both(
            "85-epoch",
            but(
                "\"expires_in\":7200",
                &format!("\"expires_at\":{}", in_two_hours.as_second()),
            ),
            ACTIVE,
        ),
        both(
            "85-date",
            but(
                "\"expires_in\":7200",
                &format!("\"expires_at\":\"{in_two_hours}\""),
            ),
            ACTIVE,
        ),
    ]
}

/// Rows 10 to 17: refresh tokens, scopes, and members that nobody knows.
fn token_bodies() -> Vec<Case> {
    let renamed = |to: &str| but("\"refresh_token\":\"new-rt\"", to);
    let and = |text: &str| but("\"token_type\"", &format!("{text},\"token_type\""));
    vec![
        refresh("10", renamed("\"x\":1"), active(FOR_2_HOURS, "", "")),
        refresh(
            "11-empty",
            renamed("\"refresh_token\":\"\""),
            active(FOR_2_HOURS, "", ""),
        ),
        refresh(
            "11-null",
            renamed("\"refresh_token\":null"),
            active(FOR_2_HOURS, "", ""),
        ),
        refresh(
            "12",
            but("new-rt", "rotated"),
            active(FOR_2_HOURS, "", "rotated"),
        ),
        exchange(
            "13",
            renamed("\"x\":1"),
            short_lived("no refresh token: sign in again when it expires", ""),
        ),
        refresh(
            "14",
            body(
                200,
                &ONE.replace("new-at", "first-at-14")
                    .replace("7200", "2592000"),
            ),
            Want::Active {
                token: "first-at-14",
                status: "valid for 29d 23h",
                log: "",
                next: "new-rt",
                heard: "",
            },
        ),
        both("15-commas", and("\"scope\":\"mail,offline\""), ACTIVE),
        both(
            "15-other",
            and("\"scope\":\"repo,gist\""),
            odd("lacking: mail offline"),
        ),
        both("15-null", and("\"scope\":null"), ACTIVE),
        both("16", and("\"scope\":\"mail\""), odd("lacking: offline")),
        both("17", forty_strangers(), ACTIVE),
    ]
}

/// Rows 18 to 21: tokens that aren't labelled, or aren't written, as the RFC has it.
fn mislabelled() -> Vec<Case> {
    const UNTYPED: &str = "the reply has no token_type; bearer is assumed";
    let plain = Scripted::reply(200, "text/plain", "access_token=new-at&expires=5184000");
    vec![
        both(
            "18",
            Scripted::reply(
                200,
                "application/x-www-form-urlencoded",
                "access_token=new-at&scope=repo%2Cgist&token_type=bearer",
            ),
            active(UNKNOWN, "lacking: mail offline", ""),
        ),
        refresh(
            "19",
            plain.clone(),
            active("valid for 59d 23h", UNTYPED, ""),
        ),
        exchange("19-code", plain, short_lived("valid for 59d 23h", UNTYPED)),
        both(
            "20",
            Scripted::reply(
                200,
                "application/json;charset=UTF-8",
                &format!("\u{feff}{ONE}"),
            ),
            ACTIVE,
        ),
        both("21", Scripted::reply(200, "text/html", ONE), ACTIVE),
    ]
}

/// Rows 22 to 26, and 36 to 37: no tokens in a success, and a dead refresh token by other names.
fn no_tokens() -> Vec<Case> {
    const WITHOUT: &str = "answered without an access token";
    const UNFIT: &str = "the access token has characters that no token may have";
    vec![
        both(
            "22",
            body(200, r#"{"id_token":"x.y.z","token_type":"Bearer"}"#),
            Parked("gave an id_token but no access token"),
        ),
        both("23-empty", but("new-at", ""), Later(WITHOUT)),
        both("23-number", but("\"new-at\"", "123"), Later(WITHOUT)),
        both("24", but("new-at", "split\\ntoken"), Later(UNFIT)),
        exchange(
            "25",
            body(200, r#"{"error":"bad_verification_code"}"#),
            Login("bad_verification_code"),
        ),
        refresh(
            "26",
            body(200, r#"{"error":"invalid_code"}"#),
            Login("invalid_code"),
        ),
        refresh(
            "36",
            error(400, "unauthorized_client", "token was already used"),
            Login("token was already used"),
        ),
        refresh(
            "37",
            body(400, r#"{"error":"invalid_request"}"#),
            Login("invalid_request"),
        ),
    ]
}

/// Rows 27 to 31: the provider's definite word.
fn refusals() -> Vec<Case> {
    let rapt = json!({
        "error": "invalid_grant",
        "error_description": "reauth related error",
        "error_subtype": "invalid_rapt",
    });
    let factor = json!({
        "error": "invalid_grant",
        "error_description": "AADSTS50076: a second factor",
        "error_codes": [50076],
        "suberror": "basic_action",
    });
    vec![
        both(
            "27",
            error(400, "invalid_grant", "Token has been expired or revoked."),
            Login("Token has been expired or revoked."),
        ),
        refresh(
            "28",
            Scripted::json(400, &rapt),
            Login("Workspace session policy"),
        ),
        refresh(
            "29",
            Scripted::json(400, &factor),
            Login("a second factor is wanted"),
        ),
        refresh(
            "30",
            error(400, "interaction_required", "AADSTS50078: too long ago"),
            Login("interaction_required: AADSTS50078"),
        ),
        refresh(
            "31",
            error(400, "invalid_grant", "AADSTS53003: blocked"),
            Login("access policy blocked this sign-in"),
        ),
    ]
}

/// Rows 32 to 35, and 48 to 51: the configuration is wrong, and errors in odd places.
fn odd_errors() -> Vec<Case> {
    const SECRET: &str = "the client secret is wrong or has expired";
    const ONE_RESOURCE: &str = "ask for the scopes of one resource only";
    let expired = |status| error(status, "invalid_client", "AADSTS7000222: expired keys");
    vec![
        both("32-400", expired(400), Parked(SECRET)),
        both("32-401", expired(401), Parked(SECRET)),
        both(
            "33",
            error(400, "invalid_client", "AADSTS7000218: no client_secret"),
            Parked("client_secret"),
        ),
        both(
            "34",
            error(400, "invalid_request", "AADSTS9002327: SPA"),
            Parked("not as a single-page application (SPA)"),
        ),
        both(
            "35-a",
            error(400, "invalid_scope", "AADSTS70011: bad"),
            Parked(ONE_RESOURCE),
        ),
        both(
            "35-b",
            error(400, "invalid_scope", "AADSTS700022: two"),
            Parked(ONE_RESOURCE),
        ),
        both(
            "48",
            body(500, r#"{"error":"invalid_grant"}"#),
            Login("invalid_grant"),
        ),
        both(
            "49",
            body(404, r#"{"error":"Not Found"}"#),
            Parked("answered 404: Not Found"),
        ),
        refresh(
            "50",
            body(400, r#"{"error":{"code":400,"message":"words within"}}"#),
            Login("400: words within"),
        ),
        refresh(
            "51",
            body(400, r#"{"errors":[{"errorType":"invalid_grant"}]}"#),
            Login("invalid_grant"),
        ),
    ]
}

/// Rows 75 to 77: errors that are no error code. Rows 94 and 95: what an organisation wants.
fn vague_errors() -> Vec<Case> {
    let blocked = r#"{"error":"Forbidden","message":"Request blocked"}"#;
    let spring = r#"{"timestamp":"2026-11-29","status":400,"error":"Bad Request","path":"/token"}"#;
    vec![
        both(
            "75",
            body(403, blocked),
            Later("answered 403: Forbidden: Request blocked"),
        ),
        both(
            "76",
            body(401, r#"{"error":"Unauthorized"}"#),
            Later("answered 401: Unauthorized"),
        ),
        both("77", body(400, spring), Later("answered 400: Bad Request")),
        refresh(
            "95",
            error(
                400,
                "invalid_grant",
                "AADSTS530036: began with a device code",
            ),
            Login("sign in with a browser"),
        ),
    ]
}

const IN_2_MINUTES: &str = "next in 1m 5|next in 2m";

/// Wants to be left alone for two minutes, by a clock that is so many seconds ahead.
fn by_another_clock(ahead: i64) -> Scripted {
    let page = Scripted::reply(503, "text/html", WEB_PAGE);
    let answer = with_header(page, "Retry-After", &date_in(ahead + 120));
    with_header(answer, "Date", &date_in(ahead))
}

/// Rows 38 to 47, and 87: it passes. A redirect points to `elsewhere`.
fn passing(elsewhere: &str) -> Vec<Case> {
    let page = |status| Scripted::reply(status, "text/html", WEB_PAGE);
    vec![
        both(
            "38-busy",
            error(400, "temporarily_unavailable", "come back"),
            Later("temporarily_unavailable: come back"),
        ),
        both(
            "38-90033",
            error(400, "invalid_request", "AADSTS90033: try later"),
            Later("AADSTS90033: try later"),
        ),
        refresh(
            "38-50196",
            error(400, "invalid_grant", "AADSTS50196: a loop"),
            Later("next in 4m 5|next in 5m"),
        ),
        both(
            "39",
            body(400, ""),
            Later("answered 400 with an empty reply"),
        ),
        both("40", page(403), Later("answered 403 with a web page")),
        both("41", page(200), Later("answered 200 with a web page")),
        both(
            "42",
            Scripted::Redirect(302, elsewhere.into()),
            Later("it was not followed"),
        ),
        both(
            "43",
            Scripted::Redirect(307, elsewhere.into()),
            Later("it was not followed"),
        ),
        both(
            "44",
            page(407),
            Later("a proxy refused to pass the request on"),
        ),
        refresh(
            "45",
            with_header(page(429), "Retry-After", "120"),
            Later(IN_2_MINUTES),
        ),
        refresh(
            "46",
            with_header(page(503), "Retry-After", &date_in(595)),
            Later("next in 9m"),
        ),
        refresh("87-ahead", by_another_clock(3 * 3600), Later(IN_2_MINUTES)),
        refresh(
            "87-behind",
            by_another_clock(-3 * 3600),
            Later(IN_2_MINUTES),
        ),
        both("47-500", page(500), Later("answered 500 with a web page")),
        both("47-502", page(502), Later("answered 502 with a web page")),
        both("47-504", page(504), Later("answered 504 with a web page")),
    ]
}

/// Statuses that the list doesn't have a row for, as a web page or a redirect.
fn more_statuses(elsewhere: &str) -> Vec<Case> {
    const PAGES: [(&str, u16); 13] = [
        ("s400", 400),
        ("s404", 404),
        ("s408", 408),
        ("s425", 425),
        ("s429", 429),
        ("s451", 451),
        ("s503", 503),
        ("s520", 520),
        ("s521", 521),
        ("s522", 522),
        ("s524", 524),
        ("s525", 525),
        ("s527", 527),
    ];
    const REDIRECTS: [(&str, u16); 3] = [("s301", 301), ("s303", 303), ("s308", 308)];
    let page = |status| Scripted::reply(status, "text/html", WEB_PAGE);
    let pages = PAGES.map(|(row, status)| refresh(row, page(status), Later("with a web page")));
    let redirects = REDIRECTS.map(|(row, status)| {
        let answer = Scripted::Redirect(status, elsewhere.into());
        refresh(row, answer, Later("it was not followed"))
    });
    let absurd = with_header(page(429), "Retry-After", "99999999999999999999");
    let mut cases = vec![
        refresh("s204", body(204, ""), Later("answered 204")),
        refresh(
            "s511",
            page(511),
            Later("the network wants a sign-in of its own"),
        ),
        refresh("s429-absurd", absurd, Later("next in 14m 5|next in 15m")),
        refresh(
            "garbage",
            body(200, "\u{0}\u{1b}[2J what?"),
            Later("is not a JSON object"),
        ),
        refresh("no-object", body(200, "[1]"), Later("is not a JSON object")),
        refresh(
            "twice",
            body(200, &ONE.replace('{', "{\"access_token\":\"x\",")),
            Later("more than one access_token"),
        ),
        refresh(
            "nest",
            body(200, &"[".repeat(100_000)),
            Later("is not a JSON object"),
        ),
    ];
    cases.extend(pages);
    cases.extend(redirects);
    cases
}

/// Rows 53 to 56: no whole reply, or too much of one.
fn broken() -> Vec<Case> {
    const LOST: &str = "the request was sent but the reply was lost";
    const ONCE: &str = "a code can be sent only once, so sign in again";
    vec![
        refresh("53", Scripted::Close, Later(LOST)),
        refresh("53-reset", Scripted::Reset, Later(LOST)),
        exchange("54", Scripted::Close, Login(ONCE)),
        exchange("54-reset", Scripted::Reset, Login(ONCE)),
        both(
            "55-json",
            body(200, r#"{"access_token":"new"#),
            Later("a reply that is cut short"),
        ),
        both("55-length", Scripted::Truncated, Later(LOST)),
        both("56", Scripted::Huge(2 << 20), Later("more than 1 MiB")),
    ]
}

fn cases(elsewhere: &str) -> Vec<Case> {
    let mut cases = tokens();
    cases.extend(token_bodies());
    cases.extend(mislabelled());
    cases.extend(codings());
    cases.extend(no_tokens());
    cases.extend(refusals());
    cases.extend(odd_errors());
    cases.extend(vague_errors());
    cases.extend(passing(elsewhere));
    cases.extend(more_statuses(elsewhere));
    cases.extend(broken());
    let mut rows: Vec<_> = cases.iter().map(|case| case.row).collect();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), cases.len(), "a row's name is its account's");
    cases
}

/// The numbers of the rows that are cases.
pub fn rows() -> BTreeSet<u32> {
    let number = |case: &Case| case.row.split('-').next()?.parse().ok();
    let cases = cases("http://localhost/elsewhere");
    cases.iter().filter_map(number).collect()
}

// ---- the world that the cases run in ----------------------------------------------------------

/// One daemon with an account for each case, and what its hooks were told.
struct World {
    provider: Provider,
    daemon: Daemon,
    cases: Vec<Case>,
    events: Record,
    errors: Record,
    notices: Record,
}

/// The account that comes last in every hook's queue.
const BARRIER: &str = "zz-barrier";

impl World {
    /// Runs the cases that `choose` likes, and accounts with `more` beside them.
    fn start(choose: fn(&Case) -> bool, more: &[&str]) -> Self {
        let provider = Provider::start();
        let mut cases = cases(&provider.url("/elsewhere"));
        cases.retain(choose);
        let mut daemon = Daemon::new("");
        let (events, errors, notices) = (
            daemon.record("events"),
            daemon.record("errors"),
            daemon.record("notices"),
        );
        let mut config = [
            events.option("token_event_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_EVENT"]),
            errors.option("error_notify_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_MSG"]),
            notices.option("auth_notify_cmd", &["PIZAUTH_ACCOUNT"]),
            provider.account(BARRIER),
        ]
        .concat();
        for case in &cases {
            config += &provider.account_at(&case.account(), &case.path(), "");
        }
        for name in more {
            config += &provider.account_at(name, &format!("{TOKEN}/{name}"), "");
        }
        daemon.write_config(&config);
        daemon.start();
        World {
            provider,
            daemon,
            cases,
            events,
            errors,
            notices,
        }
    }

    fn requests(&self, case: &Case) -> Vec<Recorded> {
        self.provider.requests(&case.path())
    }

    /// The lines of `status`, by account.
    fn status(&self) -> BTreeMap<String, String> {
        let lines = self.daemon.run(&["status"]).ok().to_owned();
        let split = |line: &str| {
            let (account, rest) = line.split_once(": ").expect("an account's line");
            (account.to_owned(), rest.to_owned())
        };
        lines.lines().map(split).collect()
    }

    /// Ends both queues of hooks with a word about [`BARRIER`], and gives what came before: the
    /// events and the errors, by account.
    fn heard(&self) -> [BTreeMap<String, Vec<String>>; 2] {
        self.daemon.sign_in(BARRIER);
        self.daemon.run(&["revoke", BARRIER]).ok();
        let denied = Scripted::Error("access_denied", "the barrier");
        self.provider.script(AUTHORIZE, denied);
        let url = self.daemon.authorization_url(BARRIER);
        assert_eq!(browser::visit(&url).status(), 403);
        let last = |record: &Record, words: &str| {
            wait::until(&format!("{words} in {record:?}"), || {
                let lines = record.lines();
                let last = format!("{BARRIER}\t{words}");
                lines.last()?.starts_with(&last).then_some(lines)
            })
        };
        [
            by_account(&last(&self.events, "token_revoked")),
            by_account(&last(&self.errors, "authorisation failed: access_denied")),
        ]
    }
}

fn by_account(lines: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        let (account, words) = line.split_once('\t').unwrap_or((line, ""));
        found.entry(account.into()).or_default().push(words.into());
    }
    found
}

fn lines_of<'a>(heard: &'a BTreeMap<String, Vec<String>>, account: &str) -> &'a [String] {
    heard.get(account).map_or(&[], Vec::as_slice)
}

/// Collects what is wrong with each case, so that one run shows all of it.
#[derive(Default)]
struct Faults(String);

impl Faults {
    fn check(&mut self, good: bool, row: &str, what: &str, found: &dyn std::fmt::Debug) {
        if !good {
            self.0 += &format!("row {row}: {what}: {found:?}\n");
        }
    }

    fn none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

/// Text as it stands in a page.
fn in_html(text: &str) -> String {
    text.replace('"', "&quot;")
}

// ---- the exchange of a code -------------------------------------------------------------------

// Covers: statuses, words, members
#[test]
fn every_answer_to_a_code_has_its_outcome() {
    let world = World::start(|case| case.exchange.is_some(), &[]);
    let mut faults = Faults::default();
    for case in &world.cases {
        world.provider.script(&case.path(), case.answer.clone());
        let url = world.daemon.authorization_url(&case.account());
        let page = browser::visit(&url);
        let want = case.exchange.expect("a case of the exchange");
        match want {
            Want::Active { .. } => {
                faults.check(page.status() == 200, case.row, "page", &page.text());
            }
            Login(says) | Parked(says) | Later(says) => {
                let good = page.status() == 403 && page.text().contains(&in_html(says));
                faults.check(good, case.row, "page", &page.text());
            }
        }
    }
    let status = world.status();
    let [events, errors] = world.heard();
    let log = world.daemon.log().text();
    for case in &world.cases {
        let account = case.account();
        let line = &status[&account];
        let events = lines_of(&events, &account);
        let errors = lines_of(&errors, &account);
        let shown = world.daemon.run(&["show", &account]);
        match case.exchange.expect("a case of the exchange") {
            Want::Active {
                token,
                status,
                log: words,
                heard,
                ..
            } => {
                faults.check(line.contains(status), case.row, "status", line);
                faults.check(events == ["token_new"], case.row, "events", &events);
                let good = match heard {
                    "" => errors.is_empty(),
                    heard => {
                        errors.len() == 1
                            && errors[0].starts_with("authorised for only ")
                            && errors[0].contains(heard)
                    }
                };
                faults.check(good, case.row, "errors", &errors);
                let good = shown.status == 0
                    && shown.stdout == format!("{token}\n")
                    && shown.stderr.is_empty();
                faults.check(good, case.row, "show", &shown);
                check_log(&mut faults, case, &log, words);
            }
            Login(says) | Parked(says) | Later(says) => {
                let failed = line.contains("the last authorisation failed: ");
                faults.check(failed && line.contains(says), case.row, "status", line);
                faults.check(events.is_empty(), case.row, "events", &events);
                let good = errors.len() == 1
                    && errors[0].starts_with("authorisation failed: ")
                    && errors[0].contains(says);
                faults.check(good, case.row, "errors", &errors);
                let good = shown.status == 77
                    && shown.stdout.is_empty()
                    && shown.stderr.contains(says)
                    && shown
                        .stderr
                        .starts_with("ERROR - Access token unavailable until");
                faults.check(good, case.row, "show", &shown);
            }
        }
        let count = world.requests(case).len();
        faults.check(count == 1, case.row, "requests", &count);
    }
    assert!(
        !log.contains("split"),
        "a token, or half of one, was logged"
    );
    assert!(world.provider.requests("/elsewhere").is_empty());
    faults.none();
}

fn check_log(faults: &mut Faults, case: &Case, log: &str, words: &str) {
    let start = format!("WARN - {}: ", case.account());
    let warnings: Vec<_> = log
        .lines()
        .filter_map(|line| line.strip_prefix(&start))
        .collect();
    let good = match words {
        "" => warnings.is_empty(),
        words => warnings.iter().filter(|line| line.contains(words)).count() == 1,
    };
    faults.check(good, case.row, "log", &warnings);
}

// ---- refreshing -------------------------------------------------------------------------------

/// Signs every case in, with tokens that live so many seconds, and scripts its refresh.
fn sign_in_all(world: &World, life: u64) {
    for case in &world.cases {
        let tokens = json!({
            "access_token": case.first("at"),
            "refresh_token": case.first("rt"),
            "token_type": "Bearer",
            "expires_in": life,
        });
        world
            .provider
            .script(&case.path(), Scripted::json(200, &tokens));
        world.provider.script(&case.path(), case.answer.clone());
        world.daemon.sign_in(&case.account());
    }
}

/// Waits until every case's refresh has had its answer; gives the status then.
fn wait_for_refreshes(world: &World) -> BTreeMap<String, String> {
    for case in &world.cases {
        world.provider.wait_for(&case.path(), 2);
    }
    wait::until("every refresh to end", || {
        let status = world.status();
        let under_way = |case: &Case| status[&case.account()].contains("under way");
        (!world.cases.iter().any(under_way)).then_some(status)
    })
}

fn check_refreshed(faults: &mut Faults, world: &World, status: &BTreeMap<String, String>) {
    for case in &world.cases {
        let requests = world.requests(case);
        faults.check(requests.len() == 2, case.row, "requests", &requests);
        let sent = requests
            .get(1)
            .and_then(|request| request.form.get("refresh_token"));
        let good = sent == Some(&case.first("rt"));
        faults.check(good, case.row, "refresh token", &sent);
    }
    let [events, errors] = world.heard();
    let log = world.daemon.log().text();
    for case in &world.cases {
        let account = case.account();
        let line = &status[&account];
        let (state, says, event, error) = match case.refresh.expect("a case of refreshing") {
            Want::Active {
                status, log: words, ..
            } => {
                check_log(faults, case, &log, words);
                ("access token ", status, Some("token_refreshed"), None)
            }
            Login(says) => (
                "refreshing given up",
                says,
                Some("token_invalidated"),
                Some("authorisation needed again: "),
            ),
            Parked(says) => (
                "refreshing stopped",
                says,
                None,
                Some("refreshing has stopped: "),
            ),
            Later(says) => ("refresh failing", says, None, None),
        };
        // A second can pass on the way, so a time may be told in either of two ways.
        let good = line.contains(state) && says.split('|').any(|says| line.contains(says));
        faults.check(good, case.row, "status", line);
        let found = lines_of(&events, &account);
        let good = found
            .iter()
            .map(String::as_str)
            .eq(["token_new"].into_iter().chain(event));
        faults.check(good, case.row, "events", &found);
        let found = lines_of(&errors, &account);
        let good = match error {
            None => found.is_empty(),
            Some(start) => {
                found.len() == 1 && found[0].starts_with(start) && found[0].contains(says)
            }
        };
        faults.check(good, case.row, "errors", &found);
    }
    assert!(
        !log.contains("split"),
        "a token, or half of one, was logged"
    );
    assert!(world.provider.requests("/elsewhere").is_empty());
}

/// While the old access token is valid, none of the answers costs it, and each leaves the right
/// refresh token behind: a second daemon that takes the state over shows which one that is.
// Covers: broken-replies, statuses, words, members, H3
#[test]
fn every_answer_to_a_refresh_has_its_outcome_while_the_token_is_valid() {
    let mut world = World::start(|case| case.refresh.is_some(), &[]);
    let mut faults = Faults::default();
    sign_in_all(&world, 3600);
    for case in &world.cases {
        world.daemon.run(&["refresh", &case.account()]).ok();
    }
    let status = wait_for_refreshes(&world);
    check_refreshed(&mut faults, &world, &status);
    for case in &world.cases {
        let shown = world.daemon.token(&case.account());
        let wanted = match case.refresh {
            Some(Want::Active { token, .. }) => token.into(),
            _ => case.first("at"),
        };
        faults.check(shown == wanted, case.row, "show", &shown);
    }
    world.daemon.restart();
    for case in &world.cases {
        world.provider.unscript(&case.path());
        world.daemon.run(&["refresh", &case.account()]).ok();
    }
    for case in &world.cases {
        let requests = world.provider.wait_for(&case.path(), 3);
        let held = requests[2].form.get("refresh_token").unwrap_or_default();
        let wanted = match case.refresh {
            Some(Want::Active { next, .. }) if !next.is_empty() => next.into(),
            _ => case.first("rt"),
        };
        faults.check(held == wanted, case.row, "refresh token afterwards", &held);
    }
    faults.none();
}

/// Once the old access token has expired, `show` says what has to be done; and a browser is
/// brought in only where a person helps (row 58).
// Covers: 57, 58, broken-replies, statuses, words, members, H3
#[test]
fn every_answer_to_a_refresh_has_its_outcome_once_the_token_has_expired() {
    let world = World::start(|case| case.refresh.is_some(), &["row-57"]);
    let mut faults = Faults::default();
    sign_in_all(&world, 1);
    let gate = row_57_prepare(&world);
    // Row 53 goes on: the refresh token was replaced after all, and the old one is dead.
    world
        .provider
        .script("/token/53", error(400, "invalid_grant", "used before"));
    let status = wait_for_refreshes(&world);
    check_refreshed(&mut faults, &world, &status);
    row_57_check(&world, &gate);
    // A notice of a sign-in that is over at once may never have been given; none comes late.
    let before = world.notices.lines().len();
    for case in &world.cases {
        let shown = world.daemon.run(&["show", &case.account()]);
        let (code, says) = match case.refresh.expect("a case of refreshing") {
            Want::Active { .. } => (0, ""),
            Login(says) => (77, says),
            Parked(says) => (78, says),
            // How long it will take isn't said here.
            Later(says) if says.starts_with("next in") => (75, ""),
            Later(says) => (75, says),
        };
        let good = shown.status == code
            && shown.stdout.is_empty() == (code != 0)
            && shown.stderr.contains(says);
        faults.check(good, case.row, "show", &shown);
    }
    let retried = world
        .daemon
        .eventually(&["show", "row-53"], |shown| shown.status == 77);
    let note = "an earlier reply was lost on the way";
    faults.check(retried.stderr.contains(note), "53", "note", &retried);
    let requests = world.requests(world.cases.iter().find(|case| case.row == "53").unwrap());
    let sent: Vec<_> = requests[1..]
        .iter()
        .map(|request| request.form.get("refresh_token"))
        .collect();
    faults.check(
        sent == [Some("first-rt-53"); 2],
        "53",
        "refresh tokens",
        &sent,
    );
    let mut wanted: Vec<_> = world
        .cases
        .iter()
        .filter(|case| matches!(case.refresh, Some(Login(_))) || case.row == "53")
        .map(Case::account)
        .collect();
    wanted.sort_unstable();
    let prompts = wait::until("the browser prompts", || {
        let mut prompts = world.notices.lines().split_off(before);
        prompts.retain(|account| account != BARRIER);
        prompts.sort_unstable();
        (prompts.len() >= wanted.len()).then_some(prompts)
    });
    faults.check(prompts == wanted, "58", "browser prompts", &prompts);
    faults.none();
}

/// Row 57: the timer's refresh is under way when two others want one too.
fn row_57_prepare(world: &World) -> Gate {
    let gate = Gate::new();
    world.provider.set(|settings| settings.expires_in = Some(1));
    world.daemon.sign_in("row-57");
    world
        .provider
        .set(|settings| settings.expires_in = Some(3600));
    world
        .provider
        .script("/token/row-57", Scripted::gated(&gate));
    gate
}

fn row_57_check(world: &World, gate: &Gate) {
    world.provider.wait_for("/token/row-57", 2);
    let both = ["refresh", "refresh"].map(|verb| world.daemon.spawn(&[verb, "row-57"]));
    for running in both {
        running.finish().ok();
    }
    let shown = world.daemon.run(&["show", "row-57"]);
    let words =
        "ERROR - Access token has expired. Refreshing is in progress but has not yet succeeded";
    assert!(shown.failed(75).starts_with(words), "{shown:?}");
    gate.open();
    let shown = world
        .daemon
        .eventually(&["show", "row-57"], |shown| shown.status == 0);
    assert!(world.provider.accepts(shown.stdout.trim_end()));
    assert_eq!(world.provider.requests("/token/row-57").len(), 2);
}

/// Row 52: nothing of the request was sent. A refresh keeps everything; a code is still good, and
/// is sent once somebody listens.
// Covers: 52, refused
#[test]
fn row_52_refused_connections_cost_nothing() {
    let provider = Provider::start();
    let doomed = Provider::start();
    let dormant = Dormant::new();
    let other = |name: &str, uri: &str| provider.account(name).replace(&provider.token_uri(), uri);
    let mut daemon = Daemon::new(
        &[
            other("code", &dormant.url(TOKEN)),
            other("refresh", &doomed.token_uri()),
        ]
        .concat(),
    );
    daemon.start();
    doomed.script(TOKEN, but("7200", "1"));
    daemon.sign_in("refresh");
    let down = doomed.go_down();
    let url = daemon.authorization_url("code");
    let browser = thread::spawn(move || browser::visit(&url));
    daemon
        .log()
        .wait_line("WARN - code: will try again to exchange the code: ");
    let shown = daemon.run(&["show", "code"]);
    assert!(
        shown
            .failed(75)
            .contains("the authorisation could not be completed yet: ")
    );
    let awake = dormant.wake();
    awake.script(TOKEN, body(200, ONE));
    let line = daemon
        .log()
        .wait_line("WARN - refresh: refresh failed, trying again in ");
    assert!(line.contains("onnection refused"), "{line}");
    assert_eq!(browser.join().expect("a page").status(), 200);
    assert_eq!(daemon.token("code"), "new-at");
    assert_eq!(awake.requests(TOKEN).len(), 1);
    let shown = daemon.run(&["show", "refresh"]);
    assert!(shown.failed(75).contains("onnection refused"), "{shown:?}");
    // That `show` wants it at once, as soon as the floor allows.
    let back = down.wake();
    back.script(TOKEN, body(200, ONE));
    daemon.eventually(&["show", "refresh"], |shown| shown.status == 0);
    let requests = back.requests(TOKEN);
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].form.get("refresh_token"), Some("new-rt"));
}

/// Row 79: what has worked so far isn't given up for one answer. Row 86: `refresh` doesn't claim to have
/// done something while the provider wants to be left alone.
// Covers: 79, 86
#[test]
fn rows_79_and_86_one_answer_does_not_outweigh_success() {
    let named = |code, description| error(401, code, description);
    let answers = [
        ("not-found", body(404, r#"{"error":"Not Found"}"#)),
        ("realm", body(404, r#"{"error":"Realm does not exist"}"#)),
        ("client", named("invalid_client", "no such client")),
        ("app", named("unauthorized_client", "AADSTS700016: no app")),
        (
            "secret",
            named("invalid_client", "AADSTS7000215: bad secret"),
        ),
    ];
    let provider = Provider::start();
    let mut daemon = Daemon::new("");
    let errors = daemon.record("errors");
    let mut config = errors.option("error_notify_cmd", &["PIZAUTH_ACCOUNT", "PIZAUTH_MSG"]);
    let path = |name: &str| format!("{TOKEN}/{name}");
    for name in answers.iter().map(|(name, _)| *name).chain(["busy"]) {
        config += &provider.account_at(name, &path(name), "");
    }
    daemon.write_config(&config);
    daemon.start();
    let busy = Scripted::reply(503, "text/html", WEB_PAGE);
    let busy = with_header(busy, "Retry-After", "3600");
    for (name, answer) in answers.iter().cloned().chain([("busy", busy)]) {
        daemon.sign_in(name);
        if name != "busy" {
            provider.script(&path(name), body(200, ONE));
        }
        provider.script(&path(name), answer);
        provider.script(&path(name), body(200, ONE));
    }
    for count in [2, 3] {
        for (name, _) in &answers {
            daemon.run(&["refresh", name]).ok();
        }
        if count == 2 {
            daemon.run(&["refresh", "busy"]).ok();
            provider.wait_for(&path("busy"), 2);
        }
        for (name, _) in &answers {
            provider.wait_for(&path(name), count);
            daemon.eventually(&["show", name], |shown| shown.stdout == "new-at\n");
        }
    }
    for (name, _) in &answers {
        daemon.eventually(&["status"], |status| {
            let line = format!("{name}: Active access token");
            let mut lines = status.stdout.lines();
            lines.any(|it| it.starts_with(&line) && it.contains("refresh failing "))
        });
        daemon.run(&["refresh", name]).ok();
    }
    for (name, _) in &answers {
        provider.wait_for(&path(name), 4);
        daemon.eventually(&["status"], |status| {
            let line = format!("{name}: Active access token");
            let mut lines = status.stdout.lines();
            lines.any(|it| it.starts_with(&line) && !it.contains("refresh failing"))
        });
    }
    assert!(errors.lines().is_empty(), "{:?}", errors.lines());
    let deferred = daemon.run(&["refresh", "busy"]);
    let words = "The provider asked to wait, so the refresh begins in 14m";
    assert!(deferred.failed(75).contains(words), "{deferred:?}");
    assert_eq!(provider.requests(&path("busy")).len(), 2);
}

// ---- the listener -----------------------------------------------------------------------------

fn one_account() -> (Provider, Daemon) {
    let provider = Provider::start();
    let mut daemon = Daemon::new(&provider.account("work"));
    daemon.start();
    (provider, daemon)
}

/// The address to which the provider sends the browser.
fn callback(daemon: &Daemon) -> String {
    browser::callback_of(&daemon.authorization_url("work"))
}

fn is_pending(daemon: &Daemon) -> bool {
    daemon
        .run(&["status"])
        .ok()
        .contains("authorisation pending")
}

/// Rows 64 and 65: the issuer in the response.
// Covers: 64, 65, H8
#[test]
fn rows_64_and_65_the_issuer_in_a_callback() {
    let (provider, daemon) = one_account();
    let right = callback(&daemon);
    let wrong = format!("{right}&iss=https%3A%2F%2Fevil.example");
    let page = browser::get(&wrong);
    assert_eq!(page.status(), 400);
    assert!(page.text().contains("another provider"), "{}", page.text());
    assert!(is_pending(&daemon));
    daemon
        .log()
        .wait_line("WARN - work: an authorization response of another issuer was ignored");
    assert!(provider.requests(TOKEN).is_empty());
    let iss = provider.url("").replace(':', "%3A").replace('/', "%2F");
    assert_eq!(browser::get(&format!("{right}&iss={iss}")).status(), 200);
    assert_eq!(provider.requests(TOKEN).len(), 1);
    assert_eq!(daemon.token("work"), "at-1");
}

/// Row 66: what browsers and passers-by do of their own accord costs nothing.
// Covers: 66
#[test]
fn row_66_nothing_but_a_response_consumes_the_attempt() {
    let (provider, daemon) = one_account();
    let right = callback(&daemon);
    let origin = &right[..right.find("/?").expect("a query")];
    let none = Pairs::default();
    let address = origin.strip_prefix("http://").expect("http");
    let idle = TcpStream::connect(address).expect("to connect");
    let status = |method: &str, url: &str| browser::send(method, url, &none, b"").status();
    assert_eq!(status("GET", &format!("{origin}/favicon.ico")), 404);
    assert_eq!(status("GET", &format!("{origin}/")), 200);
    assert_eq!(status("HEAD", &right), 200);
    assert_eq!(status("OPTIONS", &right), 204);
    assert_eq!(status("PUT", &right), 405);
    let mut tls = TcpStream::connect(address).expect("to connect");
    tls.write_all(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03")
        .expect("to say hello");
    let mut alert = Vec::new();
    tls.read_to_end(&mut alert).expect("an alert");
    assert_eq!(alert, [0x15, 3, 1, 0, 2, 2, 70]);
    assert!(is_pending(&daemon));
    assert!(provider.requests(TOKEN).is_empty());
    assert_eq!(status("GET", &right), 200);
    assert_eq!(daemon.token("work"), "at-1");
    drop(idle);
}

/// Row 67: the response as a form.
// Covers: 67
#[test]
fn row_67_a_response_may_be_posted() {
    let (provider, daemon) = one_account();
    let right = callback(&daemon);
    let (place, query) = right.split_once('?').expect("a query");
    let page = browser::post(place, &Pairs::decode(query.as_bytes()));
    assert_eq!(page.status(), 200, "{}", page.text());
    assert_eq!(daemon.token("work"), "at-1");
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

/// Row 68: the response is an error.
// Covers: 68
#[test]
fn row_68_an_error_in_a_callback() {
    let (provider, daemon) = one_account();
    let right = callback(&daemon);
    let (place, query) = right.split_once('?').expect("a query");
    let state = Pairs::decode(query.as_bytes());
    let state = state.get("state").expect("a state");
    for stale in [
        format!("{place}?error=access_denied"),
        format!("{place}?error=access_denied&state=wrong"),
        format!("{place}?error=access_denied&state={state}x"),
        format!("{place}?code=c&state="),
    ] {
        assert_eq!(browser::get(&stale).status(), 404, "{stale}");
        assert!(is_pending(&daemon), "{stale}");
    }
    let page = browser::get(&format!("{place}?error=access_denied&state={state}"));
    assert_eq!(page.status(), 403);
    assert!(
        page.text()
            .contains("you refused or closed the consent page")
    );
    daemon
        .log()
        .wait_line("ERROR - work: authorisation failed: access_denied");
    assert!(
        daemon
            .run(&["status"])
            .ok()
            .contains("the last authorisation failed: access_denied")
    );
    let shown = daemon.run(&["show", "work"]);
    assert!(shown.failed(77).contains("access_denied"), "{shown:?}");
    assert!(provider.requests(TOKEN).is_empty());
}

/// Row 94: a sign-in that waits for an administrator says what to ask for.
// Covers: 94
#[test]
fn row_94_an_administrator_has_to_approve() {
    let (provider, daemon) = one_account();
    let denied = Scripted::Error("access_denied", "AADSTS90095: admin approval required");
    provider.script(AUTHORIZE, denied);
    let page = browser::visit(&daemon.authorization_url("work"));
    assert_eq!(page.status(), 403);
    let hint = "administrator&#39;s approval: ask for it on the page";
    assert!(page.text().contains(hint), "{}", page.text());
}

/// Row 94: the administrator's address is on the page, in the error, in `status` and in `status -j`.
/// Nothing is sent to Microsoft: the browser is back before.
// Covers: 94
#[test]
fn row_94_the_administrators_address_is_everywhere() {
    let mut daemon = Daemon::new("");
    let record = daemon.record("errors");
    let notify = record.option("error_notify_cmd", &["PIZAUTH_MSG"]);
    daemon.write_config(&format!(
        r#"{notify}account "work" {{
            auth_uri = "https://login.microsoftonline.com/common/oauth2/v2.0/authorize";
            token_uri = "https://login.microsoftonline.com/common/oauth2/v2.0/token";
            client_id = "c 1"; scopes = ["offline_access", "https://outlook.office.com/SMTP.Send"];
        }}"#
    ));
    daemon.start();
    let url = Url::parse(&daemon.authorization_url("work")).unwrap();
    let field = |wanted: &str| {
        let mut pairs = url.query_pairs();
        let value = pairs.find_map(|(name, value)| (name == wanted).then_some(value));
        value.unwrap().into_owned()
    };
    let page = browser::get(&format!(
        "{}?error=access_denied&error_description=AADSTS90094:+ask+somebody&state={}",
        field("redirect_uri"),
        field("state")
    ));
    let told = record.wait_lines(1).concat();
    let shown = daemon.run(&["show", "work"]).failed(77).to_owned();
    let status = daemon.run(&["status"]).ok().to_owned();
    let json = daemon.run(&["status", "-j"]).ok().to_owned();
    let address = "https://login.microsoftonline.com/organizations/v2.0/adminconsent?client_id=c+1&scope=\
                   offline_access+https%3A%2F%2Foutlook.office.com%2FSMTP.Send&redirect_uri=";
    for text in [told, shown, status, json] {
        assert!(text.contains(address), "{text}");
    }
    let address = address.replace('&', "&amp;");
    assert!(page.text().contains(&address), "{}", page.text());
}

/// Row 69: the same response twice.
// Covers: 69, H8
#[test]
fn row_69_a_callback_is_used_once() {
    let (provider, daemon) = one_account();
    let right = callback(&daemon);
    assert_eq!(browser::get(&right).status(), 200);
    let again = browser::get(&right);
    assert_eq!(again.status(), 200);
    assert!(
        again
            .text()
            .contains("It already was, so nothing has changed.")
    );
    assert_eq!(provider.requests(TOKEN).len(), 1);
    assert_eq!(daemon.token("work"), "at-1");
}

/// The same while the exchange is under way: both pages wait for the one outcome.
// Covers: 69
#[test]
fn row_69_two_pages_wait_for_one_exchange() {
    let (provider, daemon) = one_account();
    let gate = Gate::new();
    provider.script(TOKEN, Scripted::gated(&gate));
    let right = callback(&daemon);
    let pages: Vec<_> = (0..2)
        .map(|_| {
            let right = right.clone();
            thread::spawn(move || browser::get(&right))
        })
        .collect();
    provider.wait_for(TOKEN, 1);
    gate.open();
    for page in pages {
        let page = page.join().expect("a page");
        assert_eq!(page.status(), 200);
        assert!(
            page.text().contains("“work” is authorised"),
            "{}",
            page.text()
        );
    }
    assert_eq!(provider.requests(TOKEN).len(), 1);
}

/// A reply without a body is still a reply.
#[test]
fn a_status_without_a_body_is_no_token() {
    let (provider, daemon) = one_account();
    provider.script(
        TOKEN,
        Scripted::Reply(Response {
            status: 204,
            ..Response::default()
        }),
    );
    let page = browser::visit(&daemon.authorization_url("work"));
    assert_eq!(page.status(), 403);
    assert!(
        page.text().contains("answered 204 with an empty reply"),
        "{}",
        page.text()
    );
}
