//! What can happen in the world, as data: a run is a list of these, so it can be replayed and cut
//! down. Whoever picks something that isn't there picks nothing, so every list is a run.

use super::{issuer::Found, provider::Fault, world::World};

/// Seeded numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// True once in `odds`.
    pub fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// What a browser brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Back {
    /// The user agreed.
    Code,
    /// As last time.
    Again,
    /// The user refused.
    Refused,
    /// With the `iss` of another server.
    OtherIssuer,
    /// At the redirect of another account.
    Elsewhere,
    /// With a state that nobody made.
    Forged,
    /// The user copies the code that the last page shows, and doesn't say whose sign-in it is.
    Bare,
    /// The same, and says whose.
    Named,
}

/// What changes in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Nothing,
    Policy(u8),
    Global(u8),
    ClientSecret,
    /// Another issuer; again, and it is back at the first one.
    Issuer(u8),
    ClientId(u8),
    /// Taken out, or put back in.
    Presence,
    /// A device authorization endpoint, or none.
    Device,
    /// A revocation endpoint, or none.
    Revocation,
    /// A token file elsewhere, or none.
    File(u8),
}

/// How the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kill {
    /// It dumps, and the next one restores that.
    Handover,
    /// It dies, and the next one restores some older dump.
    Crash(u8),
    /// It dies, and the next one starts with nothing.
    Bare,
    /// It ends as it should.
    Shutdown,
}

/// One thing that happens. Indices count from the newest and wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Show(u8),
    /// `show` by somebody who may wait; how is the second.
    Ask(u8, u8),
    /// `auth`, or only joining what is under way.
    Auth(u8, bool),
    /// Waiting for the end of the sign-in under way.
    Await(u8),
    /// Somebody who waits leaves.
    Leave(u8),
    Refresh(u8),
    /// `revoke`, and whether the provider is told.
    Revoke(u8, bool),
    /// A user enters a device code, and agrees or refuses.
    Enter(u8, bool),
    /// `client_secret_cmd` ends, with the secret or without.
    Secret(u8, bool),
    Browser(u8, Back),
    /// The request in flight arrives at the issuer, and its reply is on its way.
    Arrive(u8, u8),
    /// The request in flight ends.
    Reply(u8, Fault, u8),
    /// `transient_error_if_cmd` ends.
    Probe(u8, bool),
    /// So many seconds pass, with every deadline met.
    Pass(u32),
    /// Up to the next deadline, to the millisecond.
    Deadline,
    /// So many seconds pass at once.
    Suspend(u32),
    /// The wall clock is set so many seconds ahead or back.
    SetClock(i32),
    /// The system tells that the network has changed.
    Network,
    /// A tick that nobody asked for.
    Tick,
    Reload(u8, Change),
    Dump,
    Restore(u8),
    Kill(Kill),
    /// The command that keeps the state ends; how is given.
    Kept(u8),
    /// A token file can't be written.
    FileFails(u8),
    /// A restart in place begins, is given up, or succeeds if it may.
    Hold,
    Release,
    TakeOver,
    /// The request for an issuer's document ends.
    Found(u8, Found),
    /// An issuer's endpoints move.
    Move(u8),
    /// Faults stop, for as long as one retry interval: whoever can be valid must be.
    Calm,
}

/// Lives of access tokens in seconds; 0 stands for one that the provider didn't tell.
pub const LIVES: [u32; 8] = [3600, 3600, 60, 1, 25, 600, 86_400, 0];

/// The next thing to happen. It looks at the world only to waste few steps.
pub fn next(rng: &mut Rng, world: &World) -> Action {
    if !world.state.flights.is_empty() && rng.one_in(3) {
        return outcome(rng);
    }
    if world.provider.asks_issuers() && rng.one_in(4) {
        return Action::Found(rng.next() as u8, Found::pick(rng.next() as u8 as usize));
    }
    if !world.state.probes.is_empty() && rng.one_in(4) {
        return Action::Probe(rng.next() as u8, !rng.one_in(4));
    }
    if world.state.keeping.is_busy() && rng.one_in(4) {
        return Action::Kept(rng.next() as u8);
    }
    if world.state.hold.is_some() && rng.one_in(6) {
        return Action::TakeOver;
    }
    if !world.state.fetches.is_empty() && rng.one_in(4) {
        return Action::Secret(rng.next() as u8, !rng.one_in(4));
    }
    if world.state.pending() && rng.one_in(5) {
        return match rng.one_in(3) {
            true => Action::Enter(rng.next() as u8, !rng.one_in(4)),
            false => browser(rng),
        };
    }
    let account = rng.next() as u8;
    match rng.below(100) {
        0..20 => Action::Show(account),
        20..28 => Action::Ask(account, rng.next() as u8),
        28..30 => Action::Auth(account, rng.one_in(3)),
        30 => Action::Await(account),
        31 => Action::Leave(rng.next() as u8),
        32 => match rng.below(8) {
            0 => Action::FileFails(account),
            1 | 2 => Action::Hold,
            3 => Action::Release,
            _ => Action::TakeOver,
        },
        33..38 => Action::Refresh(account),
        38..40 => Action::Revoke(account, !rng.one_in(3)),
        40..44 => browser(rng),
        44 => Action::Enter(rng.next() as u8, !rng.one_in(4)),
        45..63 => time(rng),
        63..75 => Action::Deadline,
        75 => Action::Network,
        76 => Action::Tick,
        77..83 => Action::Reload(account, change(rng)),
        83..87 => Action::Dump,
        87..91 => Action::Restore(rng.next() as u8),
        91..92 => Action::Kill(match rng.below(8) {
            0 => Kill::Bare,
            4 | 5 => Kill::Shutdown,
            1..4 => Kill::Crash(rng.next() as u8),
            _ => Kill::Handover,
        }),
        92 => match rng.one_in(3) {
            true => Action::Move(rng.next() as u8),
            false => Action::Calm,
        },
        _ => outcome(rng),
    }
}

fn outcome(rng: &mut Rng) -> Action {
    let (pick, life) = (rng.next() as u8, rng.next() as u8);
    match rng.below(9) {
        0 => Action::Arrive(pick, life),
        1..5 => Action::Reply(pick, Fault::Honest, life),
        5 => Action::Reply(pick, Fault::NoRefreshToken, life),
        _ => Action::Reply(pick, Fault::pick(rng.next() as u32 as usize), life),
    }
}

fn browser(rng: &mut Rng) -> Action {
    let roll = rng.below(20);
    let back = match roll % 10 {
        0 => Back::Refused,
        1 => Back::Again,
        2 if roll < 10 => Back::OtherIssuer,
        2 => Back::Elsewhere,
        3 => Back::Forged,
        4 if roll < 10 => Back::Bare,
        4 => Back::Named,
        _ => Back::Code,
    };
    // Mostly the link that came last.
    let tab = if rng.one_in(3) { rng.next() as u8 } else { 0 };
    Action::Browser(tab, back)
}

fn time(rng: &mut Rng) -> Action {
    const DAY: u32 = 86_400;
    match rng.below(20) {
        0 => Action::Suspend(rng.of(&[60, 3600, DAY, 3 * DAY])),
        1 => Action::SetClock(rng.of(&[-1, 1, -3600, 3600, -365, 365]) * rng.of(&[1, 86_400])),
        2..8 => Action::Pass(1 + rng.below(10) as u32),
        8..14 => Action::Pass(rng.below(120) as u32),
        14..18 => Action::Pass(rng.below(1200) as u32),
        _ => Action::Pass(rng.below(3 * 3600) as u32),
    }
}

fn change(rng: &mut Rng) -> Change {
    match rng.below(16) {
        0..3 => Change::Nothing,
        3..6 => Change::Policy(rng.next() as u8),
        6..8 => Change::Global(rng.next() as u8),
        8 => Change::ClientSecret,
        9 => Change::Issuer(rng.next() as u8),
        10 => Change::ClientId(rng.next() as u8),
        11 => Change::Presence,
        12 => Change::Device,
        13 | 14 => Change::File(rng.next() as u8),
        _ => Change::Revocation,
    }
}
