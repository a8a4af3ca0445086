//! The shortest ways to the bugs that the simulator has found. Each broke a promise once.

use super::{
    action::{Action, Back, Change, Kill},
    issuer::Found,
    provider::{Fault, SCRIPTS},
    setup::{HURRY, LOAD, NOTIFY, SAVE},
    world::World,
};

/// The account whose client secret a command prints, and that has a device code beside a browser.
const BOTH: u8 = 3;

/// Lets `trace` happen in a world of four accounts at three issuers, with `global` hooks.
fn holds(global: u8, trace: &[Action]) {
    let mut world = World::new(4, 3, global, None);
    for (step, action) in trace.iter().enumerate() {
        if let Err(violation) = world.step(*action) {
            panic!("step {step}, {action:?}: {violation:?}");
        }
    }
}

/// The answer to a poll may be the tokens, also when the code has expired while it was on its way.
#[test]
fn an_answer_that_comes_after_the_code_has_expired_counts() {
    let lives_25_secs = 4;
    holds(
        NOTIFY | HURRY,
        &[
            Action::Show(BOTH),
            Action::Secret(0, true),
            Action::Reply(0, Fault::Honest, lives_25_secs),
            Action::Enter(0, true),
            Action::Deadline,
            Action::Arrive(0, 0),
            // It is reminded of after a minute.
            Action::Pass(57),
            Action::Reply(0, Fault::Honest, 0),
        ],
    );
}

/// However often a sign-in is begun, codes are asked for ten seconds apart.
#[test]
fn codes_are_not_asked_for_in_a_loop() {
    let refused = Fault::Scripted(SCRIPTS.len() as u8 - 1);
    let mut trace = vec![Action::Reload(BOTH, Change::ClientId(2))];
    for _ in 0..5 {
        trace.extend([
            Action::Show(BOTH),
            Action::Secret(0, true),
            Action::Reply(0, refused, 0),
            Action::Browser(0, Back::Refused),
        ]);
    }
    trace.push(Action::Calm);
    holds(0, &trace);
}

/// Who waits for a code hears that there is none, also when the client secret can't be had.
#[test]
fn a_code_that_nobody_can_ask_for_is_not_waited_for() {
    holds(0, &[Action::Auth(BOTH, false), Action::Secret(0, false)]);
}

/// A user is reminded when it is time, not whenever a program asks in vain for another code.
#[test]
fn a_code_that_is_not_to_be_had_reminds_nobody() {
    holds(
        NOTIFY,
        &[
            Action::Show(BOTH),
            Action::Secret(0, true),
            Action::Reply(0, Fault::NotSent, 0),
            Action::Pass(11),
            Action::Show(BOTH),
            Action::Reply(0, Fault::NotSent, 0),
        ],
    );
}

/// A reload may take the endpoint away for which a client secret is being fetched.
#[test]
fn a_code_that_can_no_longer_be_asked_for_is_given_up() {
    holds(
        NOTIFY,
        &[
            Action::Show(BOTH),
            Action::Reload(BOTH, Change::Device),
            Action::Secret(0, true),
        ],
    );
}

/// Account 0 is signed in, at an issuer that rotates refresh tokens.
const SIGNED_IN: [Action; 3] = [
    Action::Show(0),
    Action::Browser(0, Back::Code),
    Action::Reply(0, Fault::Honest, 0),
];

/// A signed-in account 0, and then `trace`.
fn holds_signed_in(global: u8, trace: &[Action]) {
    holds(global, &[&SIGNED_IN, trace].concat());
}

/// A token file is removed when its token expires, also after a restart that nothing followed.
#[test]
fn a_successor_knows_when_to_remove_a_token_file() {
    let mut trace = vec![Action::Reload(0, Change::File(1)), Action::TakeOver];
    trace.push(Action::Pass(7200));
    holds_signed_in(0, &trace);
}

/// A command that was to be tried again may be gone: the daemon doesn't spin for it.
#[test]
fn a_save_that_failed_is_forgotten_with_its_command() {
    let fails = 2;
    holds_signed_in(
        SAVE | LOAD,
        &[
            Action::Kept(fails),
            Action::Reload(0, Change::Global(LOAD)),
            Action::Kept(fails),
            Action::Pass(301),
        ],
    );
}

/// What a provider asked for holds for the successor as well.
#[test]
fn a_successor_leaves_a_provider_alone() {
    let busy = SCRIPTS.iter().position(|script| script.1 == Some("120"));
    let busy = Fault::Scripted(busy.unwrap_or_default() as u8);
    holds_signed_in(
        0,
        &[
            Action::Pass(11),
            Action::Refresh(0),
            Action::Reply(0, busy, 0),
            Action::Pass(11),
            Action::TakeOver,
            Action::Refresh(0),
            Action::Pass(200),
        ],
    );
}

/// A code is sent again ten seconds after it couldn't be, whoever is there by then.
#[test]
fn a_successor_waits_before_it_sends_a_code_again() {
    holds(
        0,
        &[
            Action::Show(0),
            Action::Browser(0, Back::Code),
            Action::Reply(0, Fault::NotSent, 0),
            Action::TakeOver,
            Action::Tick,
            Action::Pass(20),
        ],
    );
}

/// Nothing is sent by a core that is to go over: neither requests for codes nor revocations.
#[test]
fn a_core_that_is_held_sends_nothing() {
    holds_signed_in(
        0,
        &[
            Action::Hold,
            Action::Revoke(0, true),
            Action::Auth(1, false),
            Action::TakeOver,
            Action::Pass(30),
            Action::Calm,
        ],
    );
}

/// What a reload takes the endpoint from isn't revoked by that.
#[test]
fn a_revocation_without_an_endpoint_is_none() {
    holds_signed_in(
        0,
        &[
            Action::Revoke(0, true),
            Action::Reply(0, Fault::RequestLost, 0),
            Action::Reload(0, Change::Revocation),
            Action::Deadline,
        ],
    );
}

/// Somebody who hears that a refresh token goes nowhere, because its issuer has moved, hears where to
/// sign in instead: the endpoints have just become known.
#[test]
fn who_waits_for_endpoints_in_vain_hears_where_to_sign_in() {
    let discovered = 2;
    let for_most_of_its_life_after_a_refresh = 237;
    holds(
        0,
        &[
            Action::Show(discovered),
            Action::Found(0, Found::Honest),
            Action::Browser(0, Back::Code),
            Action::Reply(0, Fault::Honest, 0),
            Action::Dump,
            Action::Pass(200),
            Action::Kill(Kill::Bare),
            Action::Move(discovered),
            Action::Show(discovered),
            Action::Restore(0),
            Action::Ask(discovered, for_most_of_its_life_after_a_refresh),
            Action::Found(0, Found::Missing),
            Action::Found(0, Found::Honest),
        ],
    );
}

/// Tokens that are restored and can't be refreshed, since their issuer has moved, serve those who wait
/// as long as they are good.
#[test]
fn restored_tokens_serve_those_who_wait_also_without_a_refresh() {
    let discovered = 2;
    let for_most_of_its_life_after_a_refresh = 237;
    let sign_in = [
        Action::Show(discovered),
        Action::Found(0, Found::Honest),
        Action::Browser(0, Back::Code),
        Action::Reply(0, Fault::Honest, 0),
        Action::Dump,
    ];
    let another_daemon_elsewhere = [Action::Kill(Kill::Bare), Action::Move(discovered)];
    let trace = [
        &sign_in[..],
        &[Action::Pass(600)],
        &another_daemon_elsewhere,
        &sign_in,
        &another_daemon_elsewhere,
        &[
            Action::Restore(1),
            Action::Ask(discovered, for_most_of_its_life_after_a_refresh),
            Action::Found(0, Found::Honest),
            Action::Restore(0),
        ],
    ];
    holds(0, &trace.concat());
}

/// A client that waits while tokens are restored asks for better ones, and what it has asked for is
/// done also when it leaves, though the provider wished for a pause.
#[test]
fn a_wish_that_was_made_at_a_restore_stays() {
    let pause_of_ten_minutes = Fault::Scripted(31);
    let for_a_token = 33;
    holds(
        0,
        &[
            Action::Show(BOTH),
            Action::Secret(0, true),
            Action::Reply(0, Fault::Honest, 99),
            Action::Dump,
            Action::Revoke(BOTH, false),
            Action::Pass(774),
            Action::Ask(BOTH, for_a_token),
            Action::Reply(0, pause_of_ten_minutes, 179),
            Action::Restore(0),
            Action::Leave(0),
            Action::Deadline,
        ],
    );
}
