//! A small world seen whole: every order of events with two accounts and two issuers, up to a
//! depth, with the real core and everything that the simulator looks at. What it is for above all:
//! a token never reaches a server that it was not issued for; a sign-in that the provider
//! completed is never discarded, unless by revoke or reload; every exchange ends.
//!
//! `make model DEPTH=…` looks deeper than an ordinary test run.

use std::{
    collections::HashMap,
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    thread,
};

use super::sim::{
    action::{Action, Back, Change},
    canary::Canary,
    promise::{Invariant, Violation},
    provider::{Fault, Tag},
    setup::{EVENT, NOTIFY},
    state::{Device, Held, Renewal, Shadow, SignIn},
    world::World,
};
use crate::time::Instant;

/// How deep an ordinary test run looks, from each of [`STARTS`]: a few seconds.
const DEPTH: usize = 3;

/// `show --wait` for an hour.
const FOR_LONG: u8 = 96;

/// How many requests may be in flight, and pages open: more only repeat what two show.
const MAX_PICK: usize = 2;

/// Where the looking begins: after nothing, and after what takes many steps to come to.
const STARTS: [&[Action]; 7] = [
    &[],
    // A device code is shown beside a link, and somebody waits for the token.
    &[Action::Ask(1, FOR_LONG), Action::Reply(0, Fault::Honest, 0)],
    // A command is to print the client secret that a device code waits for.
    &[
        Action::Reload(1, Change::ClientSecret),
        Action::Reload(1, Change::ClientSecret),
        Action::Show(1),
    ],
    // One account is signed in.
    &[
        Action::Show(0),
        Action::Browser(0, Back::Code),
        Action::Reply(0, Fault::Honest, 0),
    ],
    // Its refresh has reached the issuer, whose reply is on its way.
    &[
        Action::Show(0),
        Action::Browser(0, Back::Code),
        Action::Reply(0, Fault::Honest, 0),
        Action::Dump,
        Action::Deadline,
        Action::Arrive(0, 0),
    ],
    // Both are signed in, and one's refresh token is refused.
    &[
        Action::Show(0),
        Action::Browser(0, Back::Code),
        Action::Reply(0, Fault::Honest, 0),
        Action::Show(1),
        Action::Browser(0, Back::Code),
        Action::Reply(0, Fault::Honest, 0),
        Action::Deadline,
        Action::Reply(0, Fault::Scripted(30), 0),
    ],
    // A sign-in is pending, tokens came by a dump, and their refresh is under way.
    &[
        Action::Show(0),
        Action::Browser(0, Back::Code),
        Action::Reply(0, Fault::Honest, 0),
        Action::Dump,
        Action::Revoke(0, false),
        Action::Show(0),
        Action::Restore(0),
        Action::Deadline,
    ],
];

/// What was seen.
#[derive(Default)]
struct Seen {
    /// Each state, by its fingerprint, and how far was looked from it.
    states: HashMap<u64, usize>,
    transitions: u64,
}

/// A way to a broken promise.
struct Counterexample {
    path: Vec<Action>,
    violation: Violation,
}

/// A world of two accounts and two issuers, after `start`.
fn world(start: &[Action], canary: Option<Canary>) -> World {
    let mut world = World::new(2, 2, NOTIFY | EVENT, canary);
    world.entropy.jitters = false;
    for action in start {
        world.step(*action).expect("a good start");
    }
    world
}

/// Everything that can happen next.
fn choices(world: &World) -> Vec<Action> {
    let mut all = Vec::new();
    for account in [0, 1] {
        all.extend([
            Action::Ask(account, FOR_LONG),
            Action::Show(account),
            Action::Refresh(account),
            Action::Revoke(account, true),
        ]);
    }
    let other = 1 - world.origin(0).issuer;
    all.extend([
        Action::Reload(0, Change::Issuer(other)),
        Action::Reload(0, Change::Nothing),
        Action::Dump,
        Action::Tick,
        Action::Deadline,
        Action::TakeOver,
    ]);
    if !world.people.codes.is_empty() {
        all.push(Action::Enter(0, true));
    }
    if !world.state.fetches.is_empty() {
        all.extend([Action::Secret(0, true), Action::Secret(0, false)]);
    }
    if !world.people.dumps.is_empty() {
        all.push(Action::Restore(0));
    }
    for pick in 0..world.people.tabs.len().min(MAX_PICK) as u8 {
        all.extend([
            Action::Browser(pick, Back::Code),
            Action::Browser(pick, Back::Refused),
        ]);
    }
    for pick in 0..world.state.flights.len().min(MAX_PICK) as u8 {
        all.extend([
            Action::Arrive(pick, 0),
            Action::Reply(pick, Fault::Honest, 0),
            Action::Reply(pick, Fault::ReplyLost, 0),
            Action::Reply(pick, Fault::NotSent, 0),
        ]);
    }
    all
}

/// Looks at every order of events from `world` on, `depth` deep.
fn look(
    world: &World,
    depth: usize,
    seen: &mut Seen,
    path: &mut Vec<Action>,
) -> Result<(), Violation> {
    let fingerprint = fingerprint(world);
    let known = seen.states.get(&fingerprint);
    if known.is_some_and(|looked| *looked >= depth) {
        return Ok(());
    }
    let exchanging = |shadow: &Shadow| matches!(shadow.sign_in, SignIn::Exchanging { .. });
    if known.is_none() && world.state.shadows.iter().any(exchanging) {
        // Whatever has begun must end.
        world.clone().step(Action::Calm)?;
    }
    seen.states.insert(fingerprint, depth);
    if depth == 0 {
        return Ok(());
    }
    for action in choices(world) {
        let mut next = world.clone();
        seen.transitions += 1;
        path.push(action);
        next.step(action)?;
        look(&next, depth - 1, seen, path)?;
        path.pop();
    }
    Ok(())
}

/// Everything `depth` deep from every start; the first counterexample.
fn look_from_everywhere(
    depth: usize,
    canary: Option<Canary>,
) -> Result<(usize, u64), Box<Counterexample>> {
    let from = |start: &'static [Action]| {
        let (mut seen, mut path) = (Seen::default(), start.to_vec());
        match look(&world(start, canary), depth, &mut seen, &mut path) {
            Ok(()) => Ok((seen.states.len(), seen.transitions)),
            Err(violation) => Err(Box::new(Counterexample { path, violation })),
        }
    };
    let results: Vec<_> = thread::scope(|scope| {
        let workers = STARTS.map(|start| scope.spawn(move || from(start)));
        workers
            .map(|worker| worker.join().expect("a worker"))
            .into()
    });
    let mut sum = (0, 0);
    for result in results {
        let (states, transitions) = result?;
        sum = (sum.0 + states, sum.1 + transitions);
    }
    Ok(sum)
}

// Covers: reloads
#[test]
fn every_order_of_events_keeps_every_promise() {
    let depth = super::sim::setting("PIZAUTH_MODEL_DEPTH").map_or(DEPTH, |depth| depth as usize);
    match look_from_everywhere(depth, None) {
        Ok((states, transitions)) => println!(
            "{depth} deep from {} starts: {states} states, {transitions} transitions",
            STARTS.len()
        ),
        Err(found) => panic!("{:?} by {:?}", found.violation, found.path),
    }
}

#[test]
fn a_reminder_that_discards_a_finished_exchange_is_found() {
    let found = (1..=DEPTH).find_map(|depth| {
        let result = look_from_everywhere(depth, Some(Canary::ReminderDiscards));
        result.err()
    });
    let found = found.expect("a counterexample");
    assert_eq!(found.violation.invariant, Invariant::SignIn);
    println!("found by {:?}", found.path);
}

#[test]
fn a_request_to_the_endpoint_of_an_older_config_is_found() {
    let found = (1..=DEPTH).find_map(|depth| {
        let result = look_from_everywhere(depth, Some(Canary::OldEndpoint));
        result.err()
    });
    let found = found.expect("a counterexample");
    assert_eq!(found.violation.invariant, Invariant::Origin);
    println!("found by {:?}", found.path);
}

// ---- fingerprints -----------------------------------------------------------------------------

/// What the future depends on: the core as its Debug shows it and the world around it, with times
/// relative to now, and secrets, states and names of operations by the order of their appearance.
fn fingerprint(world: &World) -> u64 {
    let mut canon = Canon {
        now: world.now.instant.millis() as i64,
        wall: world.now.wall.millis(),
        text: String::new(),
        names: HashMap::new(),
        tags: Vec::new(),
    };
    canon.core(&format!("{:?}", world.sut.core.accounts));
    canon.shadows(world);
    canon.around(world);
    canon.outlooks(world);
    let mut hasher = DefaultHasher::new();
    canon.text.hash(&mut hasher);
    hasher.finish()
}

struct Canon {
    now: i64,
    wall: i64,
    text: String,
    /// What had another name before: by its kind and that name.
    names: HashMap<(&'static str, String), usize>,
    tags: Vec<Tag>,
}

impl Canon {
    fn name(&mut self, kind: &'static str, old: &str) {
        let next = self.names.len();
        let new = *self.names.entry((kind, old.to_owned())).or_insert(next);
        let _ = write!(self.text, "{kind}{new} ");
    }

    fn tag(&mut self, tag: Tag) {
        if !self.tags.contains(&tag) {
            self.tags.push(tag);
        }
        self.name("tag", &tag.to_string());
    }

    fn time(&mut self, at: Instant) {
        let _ = write!(self.text, "{} ", at.millis() as i64 - self.now);
    }

    /// The Debug of the core, in which numbers in brackets and random texts are replaced.
    fn core(&mut self, debug: &str) {
        let mut rest = debug;
        const BEFORE: [&str; 6] = [
            "AttemptId(",
            "Waiter(",
            "Instant(",
            "Wall(",
            "state=",
            "code_challenge=",
        ];
        loop {
            let next = BEFORE.iter().enumerate();
            let next = next.filter_map(|(kind, before)| Some((rest.find(before)?, kind)));
            let Some((at, kind)) = next.min() else {
                self.text.push_str(rest);
                return;
            };
            let (before, after) = rest.split_at(at + BEFORE[kind].len());
            self.text.push_str(before);
            let end = after.find([')', '&', '"']).unwrap_or(after.len());
            let (value, after) = after.split_at(end);
            match (BEFORE[kind], value.parse::<i64>()) {
                ("Instant(", Ok(millis)) => {
                    let _ = write!(self.text, "{}", millis - self.now);
                }
                ("Wall(", Ok(millis)) => {
                    let _ = write!(self.text, "{}", millis - self.wall);
                }
                ("AttemptId(", _) => self.name("attempt", value),
                (before, _) => self.name(before, value),
            }
            rest = after;
        }
    }

    fn held(&mut self, held: Option<&Held>) {
        let Some(held) = held else {
            self.text.push_str("nothing ");
            return;
        };
        self.time(held.obtained);
        if let Some((tag, expires)) = held.access {
            self.tag(tag);
            self.time(expires.unwrap_or(Instant::from_millis(0)));
        }
        self.text.push('/');
        if let Some(tag) = held.refresh {
            self.tag(tag);
        }
    }

    fn shadows(&mut self, world: &World) {
        for shadow in &world.state.shadows {
            self.held(shadow.held.as_ref());
            match shadow.renewal {
                Renewal::InFlight(attempt) | Renewal::Probing(attempt) => {
                    self.name("attempt", &attempt.0.to_string());
                }
                Renewal::Idle | Renewal::Rejected => {}
            }
            match &shadow.sign_in {
                SignIn::None | SignIn::Discovering { .. } => {}
                SignIn::Pending {
                    browser, device, ..
                } => {
                    self.name("state=", browser.as_deref().unwrap_or_default());
                    if let Device::Code { tag, .. } = device {
                        self.tag(*tag);
                    }
                }
                SignIn::Exchanging { state, code, .. } => {
                    self.name("state=", state);
                    self.tag(*code);
                }
            }
        }
    }

    fn around(&mut self, world: &World) {
        for code in world.people.codes.iter().take(1) {
            self.tag(*code);
        }
        for (account, attempt) in &world.state.fetches {
            self.name("attempt", &attempt.0.to_string());
            let _ = write!(self.text, "{account} ");
        }
        for wait in world.people.waits.values() {
            self.time(wait.until);
            let _ = write!(self.text, "{} ", wait.account);
        }
        let _ = write!(self.text, "{} ", world.state.revocations.len());
        for flight in &world.state.flights {
            self.name("attempt", &flight.attempt.0.to_string());
            self.time(flight.sent);
            let _ = write!(self.text, "{} {} ", flight.account, flight.origin.issuer);
            if let Some(tag) = flight.tag {
                self.tag(tag);
            }
            if let Some(decision) = flight.decision {
                for tag in decision.tags() {
                    self.tag(tag);
                }
                let _ = write!(self.text, "{} ", decision.tags().count());
            }
        }
        for tab in world.people.tabs.iter().take(MAX_PICK) {
            let _ = write!(self.text, "{:?} ", tab.origin);
            self.name("state=", &tab.state);
            if let Some(tag) = tab.code {
                self.tag(tag);
            }
            let spent = world
                .state
                .spent
                .iter()
                .find(|(state, _)| *state == tab.state);
            let _ = write!(self.text, "{:?} ", spent.map(|(_, ok)| ok));
        }
        for held in world.people.dumped.front().into_iter().flatten() {
            self.held(held.as_ref());
        }
        let _ = write!(self.text, "{:?} ", world.setup);
    }

    /// What the issuers would do with each secret that is still somewhere.
    fn outlooks(&mut self, world: &World) {
        for tag in std::mem::take(&mut self.tags) {
            let (family, outlook) = world.provider.outlook(tag);
            self.name("family", &family.to_string());
            let _ = write!(self.text, "{outlook:?} ");
        }
    }
}
