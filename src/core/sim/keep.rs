//! The commands that keep the state, and the token files: what would be on the disk.

use std::time::Duration;

use super::{
    canary::has_tokens,
    promise::{Check, Invariant, Violation, fail, must},
    provider::read_tag,
    setup::{LOAD, MARK, NAMES, SAVE, index_of},
    state::{Doing, Held, Said, Work},
    world::World,
};
use crate::{
    core::{AttemptId, dump},
    secret::Secret,
};

/// How long after a failure a change is saved at the latest.
const RETRY: Duration = Duration::from_secs(300);

impl World {
    /// A daemon starts: it loads what was saved before it answers.
    pub fn start(&mut self, how: u8) -> Check {
        self.state.keeping.held = self.state.lasting();
        self.state.keeping.starting = true;
        self.feed(|sut, cx| sut.start(cx));
        self.expect(Said::default())?;
        while self.state.keeping.is_busy() {
            self.kept(how)?;
        }
        self.state.keeping.starting = false;
        self.feed(|sut, cx| sut.core.publish(cx));
        self.expect(Said::default())?;
        self.look(Doing::Restoring)
    }

    /// A change of what is held is to be saved.
    pub fn notice_changes(&mut self) {
        let held = self.state.lasting();
        if held != self.state.keeping.held && self.setup.has(SAVE) {
            (self.state.keeping.unsaved, self.state.keeping.failed) = (true, None);
        }
        self.state.keeping.held = held;
    }

    /// The config in force has another command to save by, or one at last.
    pub fn saves_elsewhere(&mut self) {
        if self
            .state
            .shadows
            .iter()
            .any(|shadow| shadow.held.is_some())
        {
            (self.state.keeping.unsaved, self.state.keeping.failed) = (true, None);
        }
    }

    pub fn load_begins(&mut self, attempt: AttemptId) -> Check {
        self.fresh(attempt)?;
        let may = self.setup.has(LOAD) && !self.state.keeping.loaded;
        must(may, Invariant::Keeping, "a load of nothing")?;
        let busy = self.state.keeping.is_busy();
        must(!busy, Invariant::Keeping, "two commands at once")?;
        self.state.keeping.work = Work::Load(attempt);
        Ok(())
    }

    pub fn save_begins(&mut self, attempt: AttemptId, bytes: &[u8]) -> Check {
        self.fresh(attempt)?;
        let busy = self.state.keeping.is_busy();
        must(!busy, Invariant::Keeping, "two commands at once")?;
        must(
            self.setup.has(SAVE),
            Invariant::Keeping,
            "a save to nowhere",
        )?;
        let may = self.state.keeping.loaded || !self.setup.has(LOAD);
        let text = "what was saved is overwritten before it was loaded";
        must(may, Invariant::Keeping, text)?;
        self.notice_changes();
        self.must_be_held(bytes)?;
        self.state.keeping.unsaved = false;
        self.state.keeping.work = Work::Save(attempt, bytes.to_vec());
        Ok(())
    }

    /// Whether the next daemon would load what is held.
    pub fn is_saved(&self) -> bool {
        self.must_be_held(&self.state.keeping.disk).is_ok()
    }

    /// What is given to the command is what is held.
    fn must_be_held(&self, bytes: &[u8]) -> Check {
        let Ok(dump) = dump::open(bytes) else {
            return fail(Invariant::Keeping, "a saved state doesn't open".into());
        };
        let mut held = self.state.held();
        for saved in dump.grants.iter().filter(|it| has_tokens(it)) {
            let account = index_of(&saved.account)?;
            let ours = held[account].take();
            let same = ours.as_ref().is_some_and(|held| self.same(saved, held));
            must(same, Invariant::Keeping, "other tokens are saved than held")?;
            let other = ours.is_some_and(|held| held.other_user);
            let text = "whose tokens they are isn't saved";
            must(saved.other_user.is_some() == other, Invariant::User, text)?;
        }
        let all = held.iter().all(Option::is_none);
        must(all, Invariant::Keeping, "not all tokens are saved")
    }

    /// The command that runs ends, in one of several ways.
    pub fn kept(&mut self, how: u8) -> Check {
        match std::mem::take(&mut self.state.keeping.work) {
            Work::None => Ok(()),
            Work::Load(attempt) => self.load_ends(attempt, how),
            Work::Save(attempt, bytes) => {
                let ok = how % 4 < 2;
                if ok || how % 4 == 3 {
                    self.state.keeping.disk = bytes;
                }
                let mut said = Said::default();
                match ok {
                    true => self.state.keeping.told = false,
                    false => {
                        self.state.keeping.unsaved = true;
                        said = self.keeping_failed();
                    }
                }
                let outcome = ok.then_some(()).ok_or("exit status 1".to_owned());
                self.feed(|sut, cx| sut.save_outcome(cx, attempt, outcome));
                self.expect(said)?;
                self.look(Doing::Other)
            }
        }
    }

    fn load_ends(&mut self, attempt: AttemptId, how: u8) -> Check {
        let disk = self.state.keeping.disk.clone();
        let outcome = match how % 4 {
            0 | 1 => Ok(disk.as_slice()),
            2 => Err("exit status 2".to_owned()),
            _ => Ok(&b"no dump"[..]),
        };
        let mut said = Said::default();
        let before = self.state.keeping.unsaved;
        if how % 4 < 2 {
            (
                self.state.keeping.loaded,
                self.state.keeping.told,
                self.state.keeping.failed,
            ) = (true, false, None);
            if let Ok(dump) = dump::open(&disk) {
                for saved in &dump.grants {
                    self.must_take(saved, &mut said)?;
                }
            }
            // It needn't be saved again.
            self.state.keeping.held = self.state.lasting();
            self.state.keeping.unsaved = before;
        } else {
            said = self.keeping_failed();
        }
        let outcome = outcome.map(<[u8]>::to_vec);
        self.feed(|sut, cx| {
            let mut outcome = outcome;
            let outcome = outcome.as_mut().map(Vec::as_mut_slice);
            sut.core
                .load_outcome(cx, attempt, outcome.map_err(|why| why.clone()));
        });
        self.expect(said)?;
        self.look(Doing::Restoring)
    }

    /// The first failure of a row is told, and the first at the end.
    fn keeping_failed(&mut self) -> Said {
        let keeping = &mut self.state.keeping;
        keeping.failed = Some(self.now.instant);
        let told = std::mem::replace(&mut keeping.told, true);
        Said {
            kept_errors: usize::from(!told),
            ..Said::default()
        }
    }

    /// The daemon ends as it should; if its last save succeeds, the next one has all that was held.
    pub fn shut_down(&mut self) -> Check {
        (self.state.keeping.closing, self.state.keeping.told) = (true, false);
        if self.setup.has(SAVE) {
            self.saves_elsewhere();
        }
        self.feed(|sut, cx| {
            sut.core.hold();
            sut.core.close(cx);
        });
        self.expect(Said::default())?;
        while self.state.keeping.is_busy() {
            self.kept(0)?;
        }
        let text = "a token file is left behind";
        must(self.state.files.is_empty(), Invariant::Published, text)?;
        let now = self.now;
        let dumped = |held: &Option<Held>| held.as_ref().map(|held| held.dumped(now));
        let before: Vec<_> = self.state.held().iter().map(dumped).collect();
        // Without tokens there need be no last save.
        let holds = before.iter().any(Option::is_some);
        let same = holds && self.setup.has(SAVE) && self.setup.has(LOAD);
        self.renew();
        self.start(0)?;
        must(
            !same || before.into_iter().eq(self.state.held().iter().map(dumped)),
            Invariant::Keeping,
            "what was held at the end isn't there at the start",
        )
    }

    /// Whatever has changed is saved, or will be.
    pub fn look_at_keeping(&mut self) -> Check {
        self.notice_changes();
        let text = "a command that nobody runs is waited for";
        let busy = self.state.keeping.is_busy();
        must(self.sut.core.is_keeping() == busy, Invariant::Keeping, text)?;
        if busy || !self.state.keeping.unsaved || !self.setup.has(SAVE) || self.sut.core.is_held() {
            return Ok(());
        }
        let wake = self.sut.poll_timeout(self.now);
        let due = self.state.keeping.failed.map(|at| at.after(RETRY));
        let met = due.is_some_and(|due| wake.is_some_and(|wake| wake <= due));
        must(met, Invariant::Keeping, "a change is not saved")
    }

    // ---- token files --------------------------------------------------------------------------

    /// A token file is written or removed.
    pub fn file_changes(&mut self, path: &str, content: Option<&Secret>) -> Check {
        match content {
            Some(content) => {
                let text = content.expose().to_owned();
                self.state.files.insert(path.to_owned(), text);
            }
            None => {
                self.state.files.remove(path);
            }
        }
        Ok(())
    }

    /// Each file has the token that would be shown, or isn't there; and there are no others.
    pub fn look_at_files(&self) -> Check {
        let wake = self.sut.poll_timeout(self.now);
        let is_due = wake.is_some_and(|at| at <= self.now.instant);
        // The tick that is due removes what has just expired. A held core has none.
        if self.state.keeping.starting
            || self.state.keeping.closing
            || is_due
            || self.state.hold.is_some()
        {
            return Ok(());
        }
        let mut wanted = 0;
        for (account, shadow) in self.state.shadows.iter().enumerate() {
            let Some(path) = self.setup.file(account) else {
                continue;
            };
            let content = self.state.files.get(&*path.path);
            let tag = content.map(|text| tag_in(text)).transpose()?;
            must(
                tag == shadow.valid(self.now.instant),
                Invariant::Published,
                "a token file hasn't the token that is shown",
            )?;
            wanted += usize::from(content.is_some());
        }
        let text = "a token file is left behind";
        must(self.state.files.len() == wanted, Invariant::Published, text)
    }

    /// The shell couldn't write a file.
    pub fn file_fails(&mut self, account: usize) -> Check {
        let name = NAMES[account];
        let mut said = Said::default();
        said.errors.extend(self.present(account).then_some(account));
        self.feed(|sut, cx| {
            sut.core.on(cx, name, |it, env| {
                it.publish_failed(env, "no space left on device")
            })
        });
        self.expect(said)?;
        self.look(Doing::Other)
    }
}

fn tag_in(text: &str) -> Result<usize, Violation> {
    let found = text.find(MARK).and_then(|at| read_tag(&text[at..]));
    match found {
        Some(tag) => Ok(tag),
        None => fail(Invariant::Published, "a token file without a token".into()),
    }
}
