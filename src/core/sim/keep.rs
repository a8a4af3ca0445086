//! The commands that keep the state, and the token files: what would be on the disk.

use std::time::Duration;

use super::{
    Check, Invariant, Violation, fail,
    look::index_of,
    provider::{MARK, read_tag},
    world::{Doing, Held, LOAD, NAMES, SAVE, Said, World, must},
};
use crate::{
    core::{AttemptId, dump},
    secret::Secret,
    time::Instant,
};

/// How long after a failure a change is saved at the latest.
const RETRY: Duration = Duration::from_secs(300);

/// What is known of the saved state.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    work: Work,
    /// What `state_save_cmd` was given last.
    disk: Vec<u8>,
    loaded: bool,
    /// Something has changed that was not given to the command yet.
    unsaved: bool,
    failed: Option<Instant>,
    told: bool,
    /// Files are brought in step before anybody is answered.
    starting: bool,
    closing: bool,
    /// As it was after the last event.
    held: Vec<Option<Held>>,
}

#[derive(Clone, Debug, Default)]
enum Work {
    #[default]
    None,
    Load(AttemptId),
    Save(AttemptId, Vec<u8>),
}

impl Keeping {
    pub fn is_busy(&self) -> bool {
        !matches!(self.work, Work::None)
    }

    /// Another daemon starts; the disk stays.
    pub fn renew(&mut self) {
        *self = Keeping {
            disk: std::mem::take(&mut self.disk),
            ..Keeping::default()
        };
    }

    /// The successor goes on, with nothing under way.
    pub fn taken_over(&mut self) {
        self.failed = None;
    }
}

impl World {
    /// A daemon starts: it loads what was saved before it answers.
    pub fn start(&mut self, how: u8) -> Check {
        self.keeping.held = self.held();
        self.keeping.starting = true;
        self.feed(|sut, cx| sut.start(cx));
        self.expect(Said::default())?;
        while self.keeping.is_busy() {
            self.kept(how)?;
        }
        self.keeping.starting = false;
        self.feed(|sut, cx| sut.core.publish(cx));
        self.expect(Said::default())?;
        self.look(Doing::Restoring)
    }

    fn held(&self) -> Vec<Option<Held>> {
        self.shadows
            .iter()
            .map(|shadow| shadow.held.clone())
            .collect()
    }

    /// A change of what is held is to be saved.
    pub fn notice_changes(&mut self) {
        let held = self.held();
        if held != self.keeping.held && self.setup.has(SAVE) {
            (self.keeping.unsaved, self.keeping.failed) = (true, None);
        }
        self.keeping.held = held;
    }

    /// The config in force has another command to save by, or one at last.
    pub fn saves_elsewhere(&mut self) {
        if self.shadows.iter().any(|shadow| shadow.held.is_some()) {
            (self.keeping.unsaved, self.keeping.failed) = (true, None);
        }
    }

    pub fn load_begins(&mut self, attempt: AttemptId) -> Check {
        self.fresh(attempt)?;
        let may = self.setup.has(LOAD) && !self.keeping.loaded;
        must(may, Invariant::Keeping, "a load of nothing")?;
        let busy = self.keeping.is_busy();
        must(!busy, Invariant::Keeping, "two commands at once")?;
        self.keeping.work = Work::Load(attempt);
        Ok(())
    }

    pub fn save_begins(&mut self, attempt: AttemptId, bytes: &[u8]) -> Check {
        self.fresh(attempt)?;
        let busy = self.keeping.is_busy();
        must(!busy, Invariant::Keeping, "two commands at once")?;
        must(
            self.setup.has(SAVE),
            Invariant::Keeping,
            "a save to nowhere",
        )?;
        let may = self.keeping.loaded || !self.setup.has(LOAD);
        let text = "what was saved is overwritten before it was loaded";
        must(may, Invariant::Keeping, text)?;
        self.notice_changes();
        self.must_be_held(bytes)?;
        self.keeping.unsaved = false;
        self.keeping.work = Work::Save(attempt, bytes.to_vec());
        Ok(())
    }

    /// Whether the next daemon would load what is held.
    pub fn is_saved(&self) -> bool {
        self.must_be_held(&self.keeping.disk).is_ok()
    }

    /// What is given to the command is what is held.
    fn must_be_held(&self, bytes: &[u8]) -> Check {
        let Ok(dump) = dump::open(bytes) else {
            return fail(Invariant::Keeping, "a saved state doesn't open".into());
        };
        let mut held = self.held();
        for saved in &dump.grants {
            let account = index_of(&saved.account)?;
            let ours = held[account].take();
            let same = ours.is_some_and(|held| self.same(saved, &held));
            must(same, Invariant::Keeping, "other tokens are saved than held")?;
        }
        let all = held.iter().all(Option::is_none);
        must(all, Invariant::Keeping, "not all tokens are saved")
    }

    /// The command that runs ends, in one of several ways.
    pub fn kept(&mut self, how: u8) -> Check {
        match std::mem::take(&mut self.keeping.work) {
            Work::None => Ok(()),
            Work::Load(attempt) => self.load_ends(attempt, how),
            Work::Save(attempt, bytes) => {
                let ok = how % 4 < 2;
                if ok || how % 4 == 3 {
                    self.keeping.disk = bytes;
                }
                let mut said = Said::default();
                match ok {
                    true => self.keeping.told = false,
                    false => {
                        self.keeping.unsaved = true;
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
        let disk = self.keeping.disk.clone();
        let outcome = match how % 4 {
            0 | 1 => Ok(disk.as_slice()),
            2 => Err("exit status 2".to_owned()),
            _ => Ok(&b"no dump"[..]),
        };
        let mut said = Said::default();
        let before = self.keeping.unsaved;
        if how % 4 < 2 {
            (self.keeping.loaded, self.keeping.told, self.keeping.failed) = (true, false, None);
            if let Ok(dump) = dump::open(&disk) {
                for saved in &dump.grants {
                    self.must_take(saved, &mut said)?;
                }
            }
            // It needn't be saved again.
            self.keeping.held = self.held();
            self.keeping.unsaved = before;
        } else {
            said = self.keeping_failed();
        }
        self.feed(|sut, cx| sut.core.load_outcome(cx, attempt, outcome));
        self.expect(said)?;
        self.look(Doing::Restoring)
    }

    /// The first failure of a row is told, and the last one.
    fn keeping_failed(&mut self) -> Said {
        let keeping = &mut self.keeping;
        keeping.failed = Some(self.now.instant);
        let told = std::mem::replace(&mut keeping.told, true);
        Said {
            kept_errors: usize::from(!told || keeping.closing),
            ..Said::default()
        }
    }

    /// The daemon ends as it should; if its last save succeeds, the next one has all that was held.
    pub fn shut_down(&mut self) -> Check {
        self.keeping.closing = true;
        if self.setup.has(SAVE) {
            self.saves_elsewhere();
        }
        self.feed(|sut, cx| {
            sut.core.hold();
            sut.core.close(cx);
        });
        self.expect(Said::default())?;
        while self.keeping.is_busy() {
            self.kept(0)?;
        }
        let text = "a token file is left behind";
        must(self.files.is_empty(), Invariant::Published, text)?;
        let before = self.held();
        // Without tokens there is no last save.
        let holds = before.iter().any(Option::is_some);
        let same = holds && self.setup.has(SAVE) && self.setup.has(LOAD);
        self.renew();
        self.start(0)?;
        must(
            !same || before == self.held(),
            Invariant::Keeping,
            "what was held at the end isn't there at the start",
        )
    }

    /// Whatever has changed is saved, or will be.
    pub fn look_at_keeping(&mut self) -> Check {
        self.notice_changes();
        let text = "a command that nobody runs is waited for";
        let busy = self.keeping.is_busy();
        must(self.sut.core.is_keeping() == busy, Invariant::Keeping, text)?;
        if busy || !self.keeping.unsaved || !self.setup.has(SAVE) || self.sut.core.is_held() {
            return Ok(());
        }
        let wake = self.sut.poll_timeout(self.now);
        let due = self.keeping.failed.map(|at| at.after(RETRY));
        let met = due.is_some_and(|due| wake.is_some_and(|wake| wake <= due));
        must(met, Invariant::Keeping, "a change is not saved")
    }

    // ---- token files --------------------------------------------------------------------------

    /// A token file is written or removed.
    pub fn file_changes(&mut self, path: &str, content: Option<&Secret>) -> Check {
        match content {
            Some(content) => {
                let text = content.expose().to_owned();
                self.files.insert(path.to_owned(), text);
            }
            None => {
                self.files.remove(path);
            }
        }
        Ok(())
    }

    /// Each file has the token that would be shown, or isn't there; and there are no others.
    pub fn look_at_files(&self) -> Check {
        let wake = self.sut.poll_timeout(self.now);
        let is_due = wake.is_some_and(|at| at <= self.now.instant);
        // The tick that is due removes what has just expired. A held core has none.
        if self.keeping.starting || self.keeping.closing || is_due || self.held.is_some() {
            return Ok(());
        }
        let mut wanted = 0;
        for (account, shadow) in self.shadows.iter().enumerate() {
            let Some(path) = self.setup.file(account) else {
                continue;
            };
            let content = self.files.get(&*path.path);
            let tag = content.map(|text| tag_in(text)).transpose()?;
            must(
                tag == shadow.valid(self.now.instant),
                Invariant::Published,
                "a token file hasn't the token that is shown",
            )?;
            wanted += usize::from(content.is_some());
        }
        let text = "a token file is left behind";
        must(self.files.len() == wanted, Invariant::Published, text)
    }

    /// The shell couldn't write a file.
    pub fn file_fails(&mut self, account: usize) -> Check {
        let name = NAMES[account];
        let mut said = Said::default();
        said.errors.extend(self.present(account).then_some(account));
        self.feed(|sut, cx| sut.core.publish_failed(cx, name, "no space left on device"));
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
