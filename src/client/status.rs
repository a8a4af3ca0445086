//! `pizauth status`: one line an account for people, or JSON for scripts.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::{ask, may_colour, print, read};
use crate::{
    error::Failure,
    report::{self, Status},
    text::{sanitize, shell_word},
    time::{Wall, humane},
    view::{
        AccessView, AccountView, DiscoveryState, DiscoveryView, ReasonView, RenewalView, SignInView,
    },
    wire::Request,
};

pub(super) fn run(json: bool) -> Result<(), Failure> {
    let mut body = ask(&Request::Status)?;
    if json {
        body.push(b'\n');
        return print(&body);
    }
    show(&body, |_| true)
}

/// The line of one account.
pub(super) fn run_one(account: &str) -> Result<(), Failure> {
    show(&ask(&Request::Status)?, |name| name == account)
}

fn show(body: &[u8], wanted: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let status: Status = read(body)?;
    let now = now();
    let zone = TimeZone::system();
    let colour = may_colour();
    let lines: Vec<String> = status
        .accounts
        .iter()
        .filter(|account| wanted(&account.account))
        .map(|account| {
            let view = account.view();
            let name = sanitize(&view.account);
            match (line(&view, now, &zone), colour) {
                (state, true) => format!("{name}: \x1b[{}m{state}\x1b[0m\n", paint(&view)),
                (state, false) => format!("{name}: {state}\n"),
            }
        })
        .collect();
    print(lines.concat().as_bytes())
}

/// The time by the wall clock: to a client it is no argument.
pub(super) fn now() -> Wall {
    Wall::from_millis(Timestamp::now().as_millisecond())
}

/// Green is good, yellow passes by itself, red needs the user (ECMA-48, 8.3.117).
fn paint(view: &AccountView) -> u8 {
    let valid = view.access.as_ref().is_some_and(|access| access.valid);
    let failing = matches!(view.renewal, Some(RenewalView::Failing { .. }));
    match report::needs(view) {
        "none" if valid && !failing => 32,
        "none" => 33,
        _ => 31,
    }
}

/// What there is to say of one account.
fn line(view: &AccountView, now: Wall, zone: &TimeZone) -> String {
    let mut parts = vec![match (&view.access, &view.lost) {
        (Some(access), _) => token(access, now, zone),
        (None, Some(reason)) => format!("no access token: {}", why(reason)),
        (None, None) => "no access token".into(),
    }];
    let valid = view.access.as_ref().is_some_and(|access| access.valid);
    let name = shell_word(&sanitize(&view.account));
    if let Some(renewal) = &view.renewal {
        parts.extend(renewed(renewal, valid, &name, now));
    }
    let held = view.renewal.is_some();
    parts.extend(signing_in(&view.sign_in, held, &name, now));
    parts.extend(view.discovery.as_ref().and_then(|it| found(it, now)));
    parts.join("; ")
}

fn token(access: &AccessView, now: Wall, zone: &TimeZone) -> String {
    match (access.valid, access.expires) {
        (true, Some(at)) => format!(
            "access token valid for {} (until {})",
            humane(at.since(now)),
            moment(at, now, zone)
        ),
        (true, None) => format!(
            "access token valid until the provider says otherwise (obtained {})",
            moment(access.obtained, now, zone)
        ),
        (false, Some(at)) if at <= now => format!("access token expired {}", ago(at, now)),
        (false, _) => "access token no longer valid".into(),
    }
}

/// `name` is the account's, for a shell.
fn renewed(renewal: &RenewalView, valid: bool, name: &str, now: Wall) -> Option<String> {
    match renewal {
        RenewalView::Impossible if valid => {
            Some("no refresh token: sign in again when it expires".into())
        }
        RenewalView::Impossible => Some(format!(
            "no refresh token: sign in again with `pizauth show {name}`"
        )),
        RenewalView::Scheduled { .. } if valid => None,
        RenewalView::Scheduled { at } => Some(format!("refresh due {}", ahead(*at, now))),
        RenewalView::UnderWay => Some("refresh under way".into()),
        RenewalView::Failing {
            since,
            failures,
            at,
            reason,
        } => Some(format!(
            "refresh failing{} ({}, next {}): {}",
            lasting(*since, now),
            attempts(*failures),
            ahead(*at, now),
            why(reason)
        )),
        RenewalView::Rejected { since, reason } => Some(format!(
            "refreshing given up {}, sign in again with `pizauth refresh {name}`: {}",
            ago(*since, now),
            why(reason)
        )),
        RenewalView::Parked { since, reason } => Some(format!(
            "refreshing stopped {}, correct the configuration and run `pizauth reload`: {}",
            ago(*since, now),
            why(reason)
        )),
    }
}

/// `name` is the account's, for a shell.
fn signing_in(sign_in: &SignInView, held: bool, name: &str, now: Wall) -> Option<String> {
    match sign_in {
        SignInView::None { failed: None } if held => None,
        SignInView::None { failed: None } => Some(format!("sign in with `pizauth show {name}`")),
        SignInView::None {
            failed: Some(reason),
        } => {
            let failed = format!("the last authorisation failed: {}", why(reason));
            Some(match held {
                true => failed,
                false => format!("{failed}; try again with `pizauth show {name}`"),
            })
        }
        SignInView::Discovering { since } => Some(format!(
            "authorisation wanted{}, but the endpoints aren't known",
            lasting(*since, now)
        )),
        SignInView::Pending {
            since,
            reminded,
            device,
            failed,
        } => {
            let mut pending = format!("authorisation pending{}", lasting(*since, now));
            if let Some(at) = reminded {
                pending.push_str(&format!(" (last reminder {})", ago(*at, now)));
            }
            if let Some(device) = device {
                pending.push_str(&format!(
                    "; open {} and enter the code {} within {}",
                    sanitize(&device.verification_uri),
                    sanitize(&device.user_code),
                    humane(device.expires.since(now))
                ));
            }
            if let Some(reason) = failed {
                pending.push_str(&format!("; the last one failed: {}", why(reason)));
            }
            Some(pending)
        }
        SignInView::Exchanging { trouble: None, .. } => {
            Some("authorisation being completed".into())
        }
        SignInView::Exchanging {
            since,
            trouble: Some(reason),
        } => Some(format!(
            "authorisation being completed{}, not yet possible: {}",
            lasting(*since, now),
            why(reason)
        )),
    }
}

/// What the issuer has said, or why not.
fn found(discovery: &DiscoveryView, now: Wall) -> Option<String> {
    let issuer = sanitize(&discovery.issuer);
    match &discovery.state {
        DiscoveryState::NotYet => None,
        DiscoveryState::UnderWay => Some(format!("asking {issuer} for its endpoints")),
        DiscoveryState::Done {
            auth_uri,
            device_auth_uri,
            revocation_uri,
            ..
        } => {
            let found = [
                ("browser", auth_uri),
                ("device code", device_auth_uri),
                ("revocation", revocation_uri),
            ];
            let found = found.iter().filter(|(_, uri)| uri.is_some());
            let found: Vec<&str> = found.map(|(name, _)| *name).collect();
            Some(format!("endpoints of {issuer}: {}", found.join(", ")))
        }
        DiscoveryState::Failed {
            failures,
            at,
            reason,
            ..
        } => {
            let next = match at {
                Some(at) => format!("next {}", ahead(*at, now)),
                None => "next when needed".into(),
            };
            let failures = attempts(*failures);
            Some(format!("{} ({failures}, {next})", why(reason)))
        }
    }
}

fn why(reason: &ReasonView) -> String {
    match &reason.hint {
        Some(hint) => format!("{} ({hint})", reason.text),
        None => reason.text.clone(),
    }
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

    /// 2026-11-22 12:00:00 UTC.
    const NOW: Wall = Wall::from_millis(1_795_348_800_000);

    fn past(secs: u64) -> Wall {
        NOW.before(Duration::from_secs(secs))
    }

    fn future(secs: u64) -> Wall {
        NOW.after(Duration::from_secs(secs))
    }

    fn view(access: Option<(bool, Option<Wall>)>, renewal: Option<RenewalView>) -> AccountView {
        AccountView {
            account: "work".into(),
            access: access.map(|(valid, expires)| AccessView {
                valid,
                obtained: past(600),
                expires,
            }),
            renewal,
            lost: None,
            discovery: None,
            sign_in: SignInView::None { failed: None },
        }
    }

    fn reason(hint: Option<&str>) -> ReasonView {
        ReasonView {
            text: "invalid_grant: gone".into(),
            hint: hint.map(str::to_owned),
        }
    }

    #[track_caller]
    fn says(view: &AccountView, text: &str) {
        assert_eq!(line(view, NOW, &TimeZone::UTC), text);
    }

    #[test]
    fn a_token_is_described_by_what_is_left_of_it() {
        let scheduled = || Some(RenewalView::Scheduled { at: future(60) });
        let soon = view(Some((true, Some(future(3_599)))), scheduled());
        says(&soon, "access token valid for 59m 59s (until 12:59:59)");
        let tomorrow = view(Some((true, Some(future(86_400)))), scheduled());
        says(
            &tomorrow,
            "access token valid for 1d (until 2026-11-23 12:00:00)",
        );
        let silent = view(Some((true, None)), scheduled());
        says(
            &silent,
            "access token valid until the provider says otherwise (obtained 11:50:00)",
        );
        let over = view(Some((false, Some(past(5)))), Some(RenewalView::UnderWay));
        says(&over, "access token expired 5s ago; refresh under way");
        let just = NOW.before(Duration::from_millis(400));
        let just = view(Some((false, Some(just))), scheduled());
        says(&just, "access token expired just now; refresh due in 1m");
        let refused = view(Some((false, Some(future(60)))), scheduled());
        says(&refused, "access token no longer valid; refresh due in 1m");
    }

    #[test]
    fn trouble_comes_with_its_reason_and_a_way_out() {
        let valid = Some((true, Some(future(60))));
        let start = "access token valid for 1m (until 12:01:00)";
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
                "refreshing given up 1m ago, sign in again with `pizauth refresh work`: \
                 invalid_grant: gone (sign in)",
            ),
            (
                RenewalView::Parked {
                    since: NOW,
                    reason: reason(None),
                },
                "refreshing stopped just now, correct the configuration and run \
                 `pizauth reload`: invalid_grant: gone",
            ),
        ] {
            says(&view(valid, Some(renewal)), &format!("{start}; {text}"));
        }
        let over = view(Some((false, Some(past(60)))), Some(RenewalView::Impossible));
        says(
            &over,
            "access token expired 1m ago; no refresh token: sign in again with `pizauth show work`",
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
        let scheduled = || Some(RenewalView::Scheduled { at: future(60) });
        assert_eq!(paint(&view(valid, scheduled())), 32);
        assert_eq!(paint(&view(valid, Some(failing))), 33);
        let expired = Some((false, Some(past(5))));
        assert_eq!(paint(&view(expired, scheduled())), 33);
        assert_eq!(paint(&view(None, None)), 31);
    }

    #[test]
    fn a_sign_in_is_described_by_how_far_it_is() {
        let pending = |since, reminded| SignInView::Pending {
            since,
            reminded,
            device: None,
            failed: None,
        };
        for (sign_in, text) in [
            (
                SignInView::None { failed: None },
                "sign in with `pizauth show work`",
            ),
            (
                SignInView::None {
                    failed: Some(reason(None)),
                },
                "the last authorisation failed: invalid_grant: gone; \
                 try again with `pizauth show work`",
            ),
            (pending(NOW, None), "authorisation pending"),
            (
                pending(past(300), Some(past(120))),
                "authorisation pending for 5m (last reminder 2m ago)",
            ),
            (
                SignInView::Pending {
                    since: past(1),
                    reminded: None,
                    device: None,
                    failed: Some(reason(Some("sign in"))),
                },
                "authorisation pending for 1s; the last one failed: invalid_grant: gone (sign in)",
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
                ..view(None, None)
            };
            says(&view, &format!("no access token; {text}"));
        }
    }

    #[test]
    fn lost_tokens_are_explained_and_names_can_be_typed() {
        let lost = AccountView {
            account: "my work".into(),
            lost: Some(reason(None)),
            ..view(None, None)
        };
        says(
            &lost,
            "no access token: invalid_grant: gone; sign in with `pizauth show 'my work'`",
        );
    }
}
