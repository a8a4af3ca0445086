//! `make soak KILLS=10000`: the processes of a server are killed, one or all, at any moment of a busy
//! life, under a service manager that keeps its descriptors and starts it again. No login is lost
//! but to a refresh that was under way, where the provider takes a second try for theft; commands are
//! answered again at once; and nothing of a token is on disk. With LOG=file, what the servers and their
//! manager have said is there afterwards.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::soak::{below, name, path, setting};
use crate::store::Manager;
use crate::support::command::Running;
use crate::support::daemon::{Daemon, children};
use crate::support::provider::{Provider, Recorded};
use crate::support::{PATIENCE, browser};

/// How many accounts there are, beside the one whose sign-in is pending.
const ACCOUNTS: usize = 24;

/// How many of them belong to the provider that takes the second use of a refresh token for theft.
const STRICT: usize = 16;

/// How long the tokens live, in seconds.
const LIFE_SECS: u64 = 60;

/// How long after the last death a moment may be, in milliseconds, usually and now and then.
const MOMENT_MILLIS: [usize; 2] = [80, 1_500];

/// So soon 99 of 100 deaths are over for a command, in milliseconds.
const OVER_MILLIS: u128 = 200;

/// How long before its arrival at the provider a request may have been sent.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

/// How long a reply may be on its way until it is in the state that outlives a death: a busy machine
/// takes so long to wake a thread.
const BEING_READ: Duration = Duration::from_millis(100);

/// What counts the commands whose server died, and its successor on the second try. There is no
/// third one, since the request may be what kills them.
const TWICE: &str = "commands that met two deaths";

/// How many deaths there are at least for each of those.
const DEATHS_FOR_TWICE: usize = 100;

/// How many commands run beside the deaths.
const BESIDE: usize = 6;

/// How many programs want a token at once that has to be refreshed.
const RACERS: usize = 12;

/// So old is a token that they want for 50 s more, and so long does the next one do.
const RACE: Duration = Duration::from_secs(10);

struct Kills<'a> {
    strict: &'a Provider,
    lax: &'a Provider,
    daemon: &'a Daemon,
    manager: Manager<'a>,
    random: u64,
    deaths: Vec<Instant>,
    counts: BTreeMap<&'static str, usize>,
    /// Who died last.
    last: String,
    /// How long each took until a token was shown again, in milliseconds.
    over: Vec<u128>,
    /// When each account signed in last.
    since: Vec<Instant>,
    /// Commands that are under way, and whether they must succeed.
    beside: VecDeque<(Running, bool)>,
    /// Where the pending account signs in.
    url: String,
    wrong: Vec<String>,
}

#[test]
#[ignore = "it takes as long as one likes: make soak KILLS=10000"]
fn no_death_costs_a_login() {
    let wanted = setting("KILLS", 200);
    let limit = Duration::from_secs(60 * setting("MINUTES", 600));
    let seed = setting("SEED", u64::from(std::process::id()));
    println!("{ACCOUNTS} accounts, {wanted} deaths, SEED={seed}");
    let (strict, lax) = (Provider::tagged("strict-"), Provider::tagged("lax-"));
    for provider in [&strict, &lax] {
        provider.set(|settings| settings.expires_in = Some(LIFE_SECS));
    }
    lax.set(|settings| settings.reuse_detection = false);
    let account = |number| {
        let provider = if number < STRICT { &strict } else { &lax };
        provider.account_at(&name(number), &path(number), "refresh_retry = 2s;")
    };
    let accounts: String = (0..ACCOUNTS).map(account).collect();
    let pending = lax.account_at("pending", &path(ACCOUNTS), "");
    let daemon = Daemon::new(&(accounts + &pending));
    let Some(manager) = Manager::start(&daemon) else {
        return;
    };
    let mut kills = Kills {
        strict: &strict,
        lax: &lax,
        daemon: &daemon,
        manager,
        random: seed,
        deaths: Vec::new(),
        counts: BTreeMap::new(),
        last: String::new(),
        over: Vec::new(),
        since: vec![Instant::now(); ACCOUNTS],
        beside: VecDeque::new(),
        url: String::new(),
        wrong: Vec::new(),
    };
    kills.manager.order("stay");
    (0..ACCOUNTS).for_each(|number| kills.sign_in(number));
    kills.url = daemon.authorization_url("pending");
    let began = Instant::now();
    while (kills.deaths.len() as u64) < wanted && began.elapsed() < limit {
        kills.round();
    }
    kills.judge(began.elapsed());
}

impl Kills<'_> {
    fn provider(&self, number: usize) -> &Provider {
        if number < STRICT {
            self.strict
        } else {
            self.lax
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        below(&mut self.random, bound)
    }

    fn sign_in(&mut self, number: usize) {
        let account = name(number);
        self.daemon.sign_in(&account);
        (self.daemon).eventually(&["show", &account], |shown| shown.status == 0);
        self.since[number] = Instant::now();
        self.count("sign-ins");
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A death or two, and what becomes of it.
    fn round(&mut self) {
        self.stir();
        let usual = self.below(20) > 0;
        self.wait(MOMENT_MILLIS[usize::from(!usual)]);
        let Some(death) = self.strike() else {
            return;
        };
        let mut last = death;
        // Another one, while the first isn't over.
        if self.below(4) == 0 {
            self.wait(20);
            last = self.strike().unwrap_or(last);
        }
        // A browser comes in the very moment now and then.
        match self.below(8) {
            0 => self.complete(),
            _ => self.ask(last),
        }
        if self.deaths.len() % 8 == 0 {
            self.race();
        }
        if self.deaths.len() % 64 == 0 {
            (0..ACCOUNTS).for_each(|number| self.look(number));
        }
    }

    fn wait(&mut self, most_millis: usize) {
        let millis = self.below(most_millis) as u64;
        // why: the moment of a death is what this chooses.
        thread::sleep(Duration::from_millis(millis));
    }

    /// Something is under way.
    fn stir(&mut self) {
        let account = name(self.below(ACCOUNTS));
        let choice = self.below(10);
        let args: &[&str] = match choice {
            0..4 => &["refresh", &account],
            4 => &["reload"],
            5 => &["restart"],
            6 => &["dump"],
            7 => &["status"],
            _ => &["show", "-w", "20s", &account],
        };
        let running = self.daemon.spawn(args);
        self.beside.push_back((running, choice > 7));
        if self.beside.len() > BESIDE {
            self.end_one();
        }
    }

    fn end_one(&mut self) {
        let Some((running, must)) = self.beside.pop_front() else {
            return;
        };
        let output = running.finish();
        if must && output.status != 0 {
            if output.stderr.contains("it hung up before it had answered") {
                self.count(TWICE);
            } else if output.status == 77 {
                self.count("commands whose account was lost");
            } else {
                self.wrong.push(format!("a command beside: {output:?}"));
            }
        }
    }

    /// Many programs want the same token, which one refresh yields, and somebody dies meanwhile. That the
    /// provider takes none of their requests for theft is looked at as for all accounts.
    fn race(&mut self) {
        let first = self.below(STRICT);
        let last = |number: usize| self.strict.requests(&path(number)).pop();
        let is_due = |it: &usize| last(*it).is_some_and(|it| it.at.elapsed() > RACE);
        let mut all = (0..STRICT).map(|it| (first + it) % STRICT);
        let Some(number) = all.find(is_due) else {
            return;
        };
        // It may have been lost before.
        self.look(number);
        let before = self.strict.requests(&path(number)).len();
        let began = Instant::now();
        for _ in 0..RACERS {
            let show = ["show", "-w", "20s", "-m", "50s", &name(number)];
            self.beside.push_back((self.daemon.spawn(&show), true));
        }
        self.wait(MOMENT_MILLIS[0]);
        self.strike();
        while !self.beside.is_empty() {
            self.end_one();
        }
        let requests = self.strict.requests(&path(number));
        let mut refreshes: Vec<_> = requests[before..]
            .iter()
            .filter_map(|it| it.form.get("refresh_token"))
            .collect();
        refreshes.dedup();
        match refreshes.len() {
            0 => self.count("races for a token that is new"),
            1 => self.count("races for one refresh"),
            _ if began.elapsed() > RACE => self.count("races that took too long"),
            many => (self.wrong).push(format!("{}: {many} refreshes in a race", name(number))),
        }
        self.look(number);
    }

    /// Kills some or all; when, if there was something to kill.
    fn strike(&mut self) -> Option<Instant> {
        let monitor = *children(self.manager.running.pid()).first()?;
        let others = children(monitor);
        let threads =
            |pid: &Pid| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        let holder = others.iter().copied().max_by_key(threads);
        let (what, victims) = match self.below(10) {
            0..5 => ("holders", holder.into_iter().collect()),
            5..7 => ("monitors", vec![monitor]),
            7 => {
                let any = self.below(others.len().max(1));
                ("children", others.get(any).copied().into_iter().collect())
            }
            8 => ("all at once", [&[monitor][..], &others].concat()),
            _ => ("all at once", [&others[..], &[monitor]].concat()),
        };
        let signals = [
            Signal::SIGKILL,
            Signal::SIGKILL,
            Signal::SIGABRT,
            Signal::SIGSEGV,
        ];
        let signal = signals[self.below(signals.len())];
        let death = Instant::now();
        let killed = victims.iter().filter(|pid| kill(**pid, signal).is_ok());
        if killed.count() == 0 {
            return None;
        }
        self.last = format!("{what} {victims:?} of {monitor} {others:?}");
        self.deaths.push(death);
        self.count(what);
        Some(death)
    }

    /// Somebody asks for a token, and gets it soon.
    fn ask(&mut self, death: Instant) {
        let number = self.below(ACCOUNTS);
        let account = name(number);
        loop {
            let shown = self.daemon.run(&["show", &account]);
            let took = death.elapsed();
            match shown.status {
                0 => return self.over.push(took.as_millis()),
                77 => return self.lost(number),
                _ if took < PATIENCE => self.count("shows that failed"),
                _ => panic!(
                    "{account}: {shown:?}\n{}",
                    self.manager.running.stderr.text()
                ),
            }
            let (number, last) = (self.deaths.len(), &self.last);
            println!(
                "{number}, {last}, after {took:?}: {}",
                shown.stderr.trim_end()
            );
        }
    }

    fn look(&mut self, number: usize) {
        let account = name(number);
        let show = ["show", "-w", "20s", &account];
        let shown = (self.daemon).eventually(&show, |shown| matches!(shown.status, 0 | 77));
        if shown.status == 77 {
            self.lost(number);
        }
    }

    /// An account has to sign in again: that is so only where a refresh was under way at a death.
    fn lost(&mut self, number: usize) {
        let requests = self.provider(number).requests(&path(number));
        let requests: Vec<_> = requests
            .iter()
            .filter(|it| it.at > self.since[number])
            .collect();
        let token = |it: &Recorded| it.form.get("refresh_token").map(str::to_owned);
        let twice = requests.iter().enumerate().find(|(at, it)| {
            let again = |other: &&Recorded| token(other) == token(it);
            token(it).is_some() && requests[..*at].iter().copied().any(|other| again(&other))
        });
        let first =
            twice.and_then(|(_, it)| requests.iter().find(|other| token(other) == token(it)));
        let explained = first.is_some_and(|first| {
            let until = first.answered.unwrap_or_else(Instant::now) + BEING_READ;
            let span = first.at - ON_ITS_WAY..until;
            self.deaths.iter().any(|death| span.contains(death))
        });
        if number < STRICT && explained {
            self.count("logins lost in flight");
        } else {
            let log = self.manager.running.stderr.text();
            let about = format!("{}: ", name(number));
            let last: Vec<_> = log.lines().filter(|line| line.contains(&about)).collect();
            let last = &last[last.len().saturating_sub(30)..];
            let times: Vec<_> = requests
                .iter()
                .map(|it| {
                    (
                        it.at.elapsed(),
                        it.answered.map(|at| at.elapsed()),
                        token(it),
                    )
                })
                .collect();
            let near: Vec<_> = self
                .deaths
                .iter()
                .rev()
                .take(20)
                .map(Instant::elapsed)
                .collect();
            self.wrong.push(format!(
                "{about}a login was lost: {last:#?}\n{times:?}\ndeaths {near:?}"
            ));
        }
        self.sign_in(number);
    }

    /// A sign-in that began some deaths ago ends well. No browser finds the port closed. One whose
    /// request a process took along shows an error, or asks the next one for a page that it doesn't
    /// have, and one that comes to a holder which ends after its monitor is told so; when its user goes
    /// to the same address again, all is well.
    fn complete(&mut self) {
        let callback = browser::callback_of(&self.url);
        let mut page = browser::try_visit(&callback);
        let cut = match &page {
            Ok(page) => matches!(page.status(), 404 | 503),
            Err(error) => matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
            ),
        };
        if cut {
            self.count("browsers that were hung up on");
            page = browser::try_visit(&callback);
        }
        // The code that was under way at a death may have been taken before.
        let requests = self.lax.requests(&path(ACCOUNTS));
        let codes: Vec<_> = requests
            .iter()
            .filter_map(|it| it.form.get("code"))
            .collect();
        let twice = matches!(codes[..], [.., first, second] if first == second);
        match page {
            Ok(page) if page.status() == 200 => {
                self.count("sign-ins that went on");
                (self.daemon).eventually(&["show", "pending"], |shown| shown.status == 0);
            }
            Ok(page) if page.status() == 403 && cut && twice => self.count("codes lost in flight"),
            Ok(page) => self.wrong.push(format!("a sign-in: {page:?}")),
            Err(error) => self.wrong.push(format!("a sign-in: {error}")),
        }
        let show = ["show", "pending"];
        let revoke = ["revoke", "--local", "pending"];
        (self.daemon).eventually(&revoke, |revoked| revoked.status == 0);
        let shown = (self.daemon).eventually(&show, |shown| shown.status == 77);
        self.url = browser::url_in(&shown.stderr);
    }

    fn judge(mut self, took: Duration) {
        while !self.beside.is_empty() {
            self.end_one();
        }
        (0..ACCOUNTS).for_each(|number| self.look(number));
        if let Ok(file) = std::env::var("LOG") {
            let Manager { running, .. } = &self.manager;
            fs::write(file, running.stderr.text() + &running.stdout.text()).expect("to write");
        }
        self.over.sort_unstable();
        let part = |percent| {
            let at = self.over.len().saturating_sub(1) * percent / 100;
            self.over.get(at).copied().unwrap_or_default()
        };
        println!(
            "{} deaths in {took:?}: {:#?}",
            self.deaths.len(),
            self.counts
        );
        let parts = [50, 90, 99, 100].map(part);
        println!("ms until a token was shown, at 50, 90, 99 and 100 %: {parts:?}");
        if parts[2] > OVER_MILLIS {
            self.wrong.push("commands wait too long".into());
        }
        let twice = self.counts.get(TWICE).copied().unwrap_or_default();
        if twice > 1 + self.deaths.len() / DEATHS_FOR_TWICE {
            self.wrong.push("commands meet too many deaths".into());
        }
        for file in files(&self.daemon.path("")) {
            let text = fs::read(&file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            if text.contains("strict-") || text.contains("lax-") {
                self.wrong.push(format!("a token in {}", file.display()));
            }
        }
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
    }
}

/// The regular files below a directory.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}
