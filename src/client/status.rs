//! `pizauth status`: one line an account for people, or JSON for scripts.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::{ask, is_terminal, may_colour, older, print, read, tell};
use crate::text::{sanitize, shell_word};
use crate::time::{Wall, humane};
use crate::{
    error::Failure,
    view::{
        AccountView, DiscoveryState, DiscoveryView, EndsBy, Needs, PASTE, ProxyView, RenewalView,
        SignInEnd, SignInView, Status, other_user,
    },
    wire::Request,
};

pub(super) fn run(json: bool) -> Result<(), Failure> {
    let mut body = match ask(&Request::Status) {
        Err(failure) if older::is_here(&failure) && !json => {
            let mut lines = older::ask(&Request::Status)?;
            if lines.last().is_some_and(|last| *last != b'\n') {
                lines.push(b'\n');
            }
            return print(&lines);
        }
        outcome => outcome?,
    };
    if json {
        body.push(b'\n');
        return print(&body);
    }
    show(&body, |_| true)?;
    print(proxies(&read(&body)?).as_bytes())
}

/// How many programs each proxy has.
fn proxies(status: &Status) -> String {
    let line = |proxy: &ProxyView| {
        let [address, account] = [&proxy.address, &proxy.account].map(|it| sanitize(it));
        let s = if proxy.sessions == 1 { "" } else { "s" };
        format!(
            "proxy {address}: {} session{s} of {account}\n",
            proxy.sessions
        )
    };
    status.proxies.iter().map(line).collect()
}

/// The line of one account.
pub(super) fn run_one(account: &str) -> Result<(), Failure> {
    show(&ask(&Request::Status)?, |name| name == account)
}

/// The names of all accounts.
pub(super) fn names() -> Result<Vec<String>, Failure> {
    let status: Status = read(&ask(&Request::Status)?)?;
    Ok(status.accounts.into_iter().map(|it| it.account).collect())
}

fn show(body: &[u8], wanted: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let status: Status = read(body)?;
    let now = now();
    let zone = TimeZone::system();
    let colour = may_colour();
    let accounts = status.accounts.iter();
    let accounts: Vec<_> = accounts.filter(|it| wanted(&it.account)).collect();
    let names = accounts
        .iter()
        .map(|it| format!("{}:", sanitize(&it.account)));
    let names: Vec<String> = names.collect();
    // People get a table, scripts a line an account.
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.filter(|_| is_terminal()).unwrap_or_default();
    let between = match width {
        0 => "; ".into(),
        _ => format!("\n{:width$} ", ""),
    };
    let lines = names.iter().zip(accounts).map(|(name, account)| {
        let state = line(account, now, &zone, &between);
        match colour {
            true => format!("{name:<width$} \x1b[{}m{state}\x1b[0m\n", paint(account)),
            false => format!("{name:<width$} {state}\n"),
        }
    });
    let lines: String = lines.collect();
    print(lines.as_bytes())?;
    if let Some(error) = &status.state_error {
        tell(&format!("WARN - {}\n", sanitize(error)));
    }
    Ok(())
}

/// The time by the wall clock: to a client it is no argument.
pub(super) fn now() -> Wall {
    Wall::from_millis(Timestamp::now().as_millisecond())
}

/// Green is good, yellow passes by itself, red needs the user (ECMA-48, 8.3.117).
fn paint(account: &AccountView) -> u8 {
    match (account.needs, &account.renewal) {
        (Needs::None, RenewalView::Failing { .. }) => 33,
        (Needs::None, _) if account.valid => 32,
        (Needs::None, _) => 33,
        (Needs::SignIn | Needs::Config, _) => 31,
    }
}

/// What there is to say of one account; what is put `between` keeps it apart.
fn line(account: &AccountView, now: Wall, zone: &TimeZone, between: &str) -> String {
    let token = match (account.obtained, &account.sign_in, &account.renewal) {
        (Some(obtained), ..) => token(account, obtained, now, zone),
        (None, SignInView::Pending { .. }, _) => "Access token pending authentication".into(),
        (None, _, RenewalView::NoTokens { lost: Some(why) }) => {
            format!("No access token: {}", why.line())
        }
        (None, ..) => "No access token".into(),
    };
    let mut parts = vec![token];
    let name = shell_word(&sanitize(&account.account));
    parts.extend(renewed(account, &name, now));
    parts.extend(account.sign_in_end.map(|it| ending(it, now, zone)));
    parts.extend(signing_in(account, &name, now));
    let user = account.other_user.as_deref();
    parts.extend(user.map(|user| other_user(&sanitize(user))));
    parts.extend(account.discovery.as_ref().and_then(|it| found(it, now)));
    if account.plain_http {
        parts.push("others can read its tokens on the way (allow_http)".into());
    }
    parts.join(between)
}

/// How a state starts is what scripts look for.
fn token(account: &AccountView, obtained: Wall, now: Wall, zone: &TimeZone) -> String {
    match (account.valid, account.expires) {
        (true, Some(at)) => format!(
            "Active access token (valid for {}, until {})",
            humane(at.since(now)),
            moment(at, now, zone)
        ),
        (true, None) => format!(
            "Active access token (valid until the provider says otherwise; obtained {})",
            moment(obtained, now, zone)
        ),
        (false, Some(at)) if at <= now => format!("Access token expired ({})", ago(at, now)),
        (false, _) => "Access token expired (no longer valid)".into(),
    }
}

/// What is to be said about refreshing. `name` is the account's, for a shell.
fn renewed(account: &AccountView, name: &str, now: Wall) -> Option<String> {
    Some(match &account.renewal {
        RenewalView::Impossible if account.valid => {
            "no refresh token: sign in again when it expires".into()
        }
        RenewalView::Impossible => {
            format!("no refresh token: sign in again with `pizauth auth {name}`")
        }
        RenewalView::OnRequest => format!("`pizauth show {name}` obtains one"),
        RenewalView::Scheduled { at } if !account.valid => {
            format!("refresh due {}", ahead(*at, now))
        }
        RenewalView::UnderWay => "refresh under way".into(),
        RenewalView::Failing {
            at,
            since,
            failures,
            reason,
        } => format!(
            "refresh failing{} ({}, next {}): {}",
            lasting(*since, now),
            attempts(*failures),
            ahead(*at, now),
            reason.line()
        ),
        RenewalView::Rejected { since, reason } => format!(
            "refreshing given up {}, sign in again with `pizauth auth {name}`: {}",
            ago(*since, now),
            reason.line()
        ),
        RenewalView::Parked { since, reason, .. } => format!(
            "refreshing stopped {}, correct the configuration and run `pizauth reload`: {}",
            ago(*since, now),
            reason.line()
        ),
        RenewalView::NoTokens { .. } | RenewalView::Scheduled { .. } | RenewalView::Other => {
            return None;
        }
    })
}

/// Until when the sign-in lasts.
fn ending(end: SignInEnd, now: Wall, zone: &TimeZone) -> String {
    let says = match end.by {
        EndsBy::Provider => "the provider says",
        EndsBy::Experience => "judging by earlier sign-ins",
    };
    format!("sign in again by {}, {says}", moment(end.at, now, zone))
}

/// What is to be said about a sign-in. `name` is the account's, for a shell.
fn signing_in(account: &AccountView, name: &str, now: Wall) -> Option<String> {
    let has_tokens = !matches!(account.renewal, RenewalView::NoTokens { .. });
    Some(match &account.sign_in {
        SignInView::Discovering { since } => format!(
            "authorisation wanted{}, but the endpoints aren't known",
            lasting(*since, now)
        ),
        SignInView::Pending {
            since,
            requester,
            reminded,
            device,
            paste,
            failed,
        } => {
            let mut pending = format!("authorisation pending{}", lasting(*since, now));
            if let Some(at) = reminded {
                pending.push_str(&format!(" (last reminder {})", ago(*at, now)));
            }
            if let Some(requester) = requester {
                pending.push_str(&format!(", asked for by {}", sanitize(requester)));
            }
            if let Some(device) = device {
                pending.push_str(&format!(
                    "; open {} and enter the code {} within {}",
                    sanitize(&device.verification_uri),
                    sanitize(&device.user_code),
                    humane(device.expires.since(now))
                ));
            }
            if *paste {
                pending.push_str(&format!("; {PASTE}"));
            }
            if let Some(why) = failed {
                pending.push_str(&format!("; the last one failed: {}", why.line()));
            }
            pending
        }
        SignInView::Exchanging { trouble: None, .. } => "authorisation being completed".into(),
        SignInView::Exchanging {
            since,
            trouble: Some(why),
        } => format!(
            "authorisation being completed{}, not yet possible: {}",
            lasting(*since, now),
            why.line()
        ),
        SignInView::Failed { reason } if has_tokens => {
            format!("the last authorisation failed: {}", reason.line())
        }
        SignInView::Failed { reason } => format!(
            "the last authorisation failed: {}; try again with `pizauth auth {name}`",
            reason.line()
        ),
        SignInView::None | SignInView::Other if has_tokens => return None,
        SignInView::None | SignInView::Other => format!("sign in with `pizauth auth {name}`"),
    })
}

/// What the issuer has said, or why not.
fn found(discovery: &DiscoveryView, now: Wall) -> Option<String> {
    let issuer = sanitize(&discovery.issuer);
    Some(match &discovery.state {
        DiscoveryState::NotYet | DiscoveryState::Other => return None,
        DiscoveryState::UnderWay => format!("asking {issuer} for its endpoints"),
        DiscoveryState::Done {
            auth_uri,
            token_uri: _,
            device_auth_uri,
            revocation_uri,
        } => {
            let found = [
                ("browser", auth_uri),
                ("device code", device_auth_uri),
                ("revocation", revocation_uri),
            ];
            let found = found.iter().filter(|(_, uri)| uri.is_some());
            let found: Vec<&str> = found.map(|(name, _)| *name).collect();
            format!("endpoints of {issuer}: {}", found.join(", "))
        }
        DiscoveryState::Failed {
            since: _,
            failures,
            at,
            reason,
        } => {
            let next = match at {
                Some(at) => format!("next {}", ahead(*at, now)),
                None => "next when needed".into(),
            };
            format!("{} ({}, {next})", reason.line(), attempts(*failures))
        }
    })
}

fn attempts(count: u32) -> String {
    match count {
        1 => "1 attempt".into(),
        many => format!("{many} attempts"),
    }
}

/// A span as it is shown, if a second of it has passed.
fn passed(span: Duration) -> Option<String> {
    (span.as_secs() > 0).then(|| humane(span))
}

fn ago(at: Wall, now: Wall) -> String {
    passed(now.since(at)).map_or("just now".into(), |span| format!("{span} ago"))
}

/// Behind what lasts; nothing when that has just begun.
fn lasting(since: Wall, now: Wall) -> String {
    passed(now.since(since)).map_or(String::new(), |span| format!(" for {span}"))
}

fn ahead(at: Wall, now: Wall) -> String {
    passed(at.since(now)).map_or("at once".into(), |span| format!("in {span}"))
}

/// A moment in the user's own time; with the day when it isn't today.
pub(super) fn moment(at: Wall, now: Wall, zone: &TimeZone) -> String {
    let zoned = |at: Wall| {
        let at = Timestamp::from_millisecond(at.millis()).ok()?;
        Some(at.to_zoned(zone.clone()))
    };
    let Some(at) = zoned(at) else {
        return "a time out of range".into();
    };
    let today = zoned(now).is_some_and(|now| now.date() == at.date());
    let format = if today {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Refusal;

    /// 2026-11-22 12:00:00 UTC.
    const NOW: Wall = Wall::from_millis(1_795_348_800_000);

    const NONE: RenewalView = RenewalView::NoTokens { lost: None };

    fn past(secs: u64) -> Wall {
        NOW.before(Duration::from_secs(secs))
    }

    fn future(secs: u64) -> Wall {
        NOW.after(Duration::from_secs(secs))
    }

    fn view(access: Option<(bool, Option<Wall>)>, renewal: RenewalView) -> AccountView {
        AccountView {
            account: "work".into(),
            valid: access.is_some_and(|(valid, _)| valid),
            needs: Needs::None,
            plain_http: false,
            obtained: access.map(|_| past(600)),
            expires: access.and_then(|(_, expires)| expires),
            renewal,
            sign_in: SignInView::None,
            sign_in_end: None,
            user: None,
            other_user: None,
            discovery: None,
        }
    }

    fn reason(hint: Option<&str>) -> Refusal {
        Refusal {
            text: "invalid_grant: gone".into(),
            hint: hint.map(str::to_owned),
        }
    }

    #[track_caller]
    fn says(view: &AccountView, text: &str) {
        assert_eq!(line(view, NOW, &TimeZone::UTC, "; "), text);
    }

    #[test]
    fn a_token_is_described_by_what_is_left_of_it() {
        let scheduled = || RenewalView::Scheduled { at: future(60) };
        let soon = view(Some((true, Some(future(3_599)))), scheduled());
        says(
            &soon,
            "Active access token (valid for 59m 59s, until 12:59:59)",
        );
        let tomorrow = view(Some((true, Some(future(86_400)))), scheduled());
        says(
            &tomorrow,
            "Active access token (valid for 1d, until 2026-11-23 12:00:00)",
        );
        let silent = view(Some((true, None)), scheduled());
        says(
            &silent,
            "Active access token (valid until the provider says otherwise; obtained 11:50:00)",
        );
        let over = view(Some((false, Some(past(5)))), RenewalView::UnderWay);
        says(&over, "Access token expired (5s ago); refresh under way");
        let just = NOW.before(Duration::from_millis(400));
        let just = view(Some((false, Some(just))), scheduled());
        says(&just, "Access token expired (just now); refresh due in 1m");
        let refused = view(Some((false, Some(future(60)))), scheduled());
        says(
            &refused,
            "Access token expired (no longer valid); refresh due in 1m",
        );
    }

    #[test]
    fn trouble_comes_with_its_reason_and_a_way_out() {
        let valid = Some((true, Some(future(60))));
        let start = "Active access token (valid for 1m, until 12:01:00)";
        let failing = |failures, since, at| RenewalView::Failing {
            since,
            failures,
            at,
            reason: reason(None),
        };
        for (renewal, text) in [
            (
                RenewalView::Impossible,
                "no refresh token: sign in again when it expires",
            ),
            (
                failing(3, past(300), future(40)),
                "refresh failing for 5m (3 attempts, next in 40s): invalid_grant: gone",
            ),
            (
                failing(1, NOW, NOW),
                "refresh failing (1 attempt, next at once): invalid_grant: gone",
            ),
            (
                RenewalView::Rejected {
                    since: past(60),
                    reason: reason(Some("sign in")),
                },
                "refreshing given up 1m ago, sign in again with `pizauth auth work`: \
                 invalid_grant: gone (sign in)",
            ),
            (
                RenewalView::Parked {
                    since: NOW,
                    at: NOW,
                    reason: reason(None),
                },
                "refreshing stopped just now, correct the configuration and run \
                 `pizauth reload`: invalid_grant: gone",
            ),
        ] {
            says(&view(valid, renewal), &format!("{start}; {text}"));
        }
        let over = view(Some((false, Some(past(60)))), RenewalView::Impossible);
        says(
            &over,
            "Access token expired (1m ago); no refresh token: sign in again with `pizauth auth work`",
        );
    }

    #[test]
    fn colours_tell_good_from_passing_from_yours_to_do() {
        let valid = Some((true, Some(future(60))));
        let failing = RenewalView::Failing {
            since: NOW,
            failures: 1,
            at: NOW,
            reason: reason(None),
        };
        let scheduled = || RenewalView::Scheduled { at: future(60) };
        assert_eq!(paint(&view(valid, scheduled())), 32);
        assert_eq!(paint(&view(valid, failing)), 33);
        let expired = Some((false, Some(past(5))));
        assert_eq!(paint(&view(expired, scheduled())), 33);
        for needs in [Needs::SignIn, Needs::Config] {
            let red = AccountView {
                needs,
                ..view(valid, scheduled())
            };
            assert_eq!(paint(&red), 31);
        }
    }

    #[test]
    fn a_sign_in_is_described_by_how_far_it_is() {
        let pending = |since, reminded| SignInView::Pending {
            since,
            requester: None,
            reminded,
            device: None,
            paste: false,
            failed: None,
        };
        for (sign_in, text) in [
            (SignInView::None, "sign in with `pizauth auth work`"),
            (
                SignInView::Failed {
                    reason: reason(None),
                },
                "the last authorisation failed: invalid_grant: gone; \
                 try again with `pizauth auth work`",
            ),
            (pending(NOW, None), "authorisation pending"),
            (
                pending(past(300), Some(past(120))),
                "authorisation pending for 5m (last reminder 2m ago)",
            ),
            (
                SignInView::Pending {
                    since: past(1),
                    requester: Some("msmtp (started by neomutt)".into()),
                    reminded: None,
                    device: None,
                    paste: true,
                    failed: Some(reason(Some("sign in"))),
                },
                "authorisation pending for 1s, asked for by msmtp (started by neomutt); after signing in, give the address of the last page, \
                 or the code that it shows, to `pizauth redirect`; \
                 the last one failed: invalid_grant: gone (sign in)",
            ),
            (
                SignInView::Exchanging {
                    since: past(2),
                    trouble: None,
                },
                "authorisation being completed",
            ),
            (
                SignInView::Exchanging {
                    since: past(40),
                    trouble: Some(reason(None)),
                },
                "authorisation being completed for 40s, not yet possible: invalid_grant: gone",
            ),
        ] {
            let view = AccountView {
                sign_in,
                ..view(None, NONE)
            };
            let start = match view.sign_in {
                SignInView::Pending { .. } => "Access token pending authentication",
                _ => "No access token",
            };
            says(&view, &format!("{start}; {text}"));
        }
    }

    #[test]
    fn tokens_that_travel_in_clear_are_warned_of() {
        let plain = AccountView {
            plain_http: true,
            ..view(Some((true, Some(future(60)))), NONE)
        };
        says(
            &plain,
            "Active access token (valid for 1m, until 12:01:00); sign in with `pizauth auth work`; \
             others can read its tokens on the way (allow_http)",
        );
    }

    #[test]
    fn lost_tokens_are_explained_and_names_can_be_typed() {
        let lost = AccountView {
            account: "my work".into(),
            ..view(
                None,
                RenewalView::NoTokens {
                    lost: Some(reason(None)),
                },
            )
        };
        says(
            &lost,
            "No access token: invalid_grant: gone; sign in with `pizauth auth 'my work'`",
        );
    }
}
