//! Which hook runs when: those of one kind in order, and so many of them at once. Pure, but for what
//! belongs to a job's pipe.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc::Receiver},
};

use serde::{Deserialize, Serialize};

use crate::{
    core::AttemptId,
    secret::SecretBytes,
    server::ipc::hook_messages::{HookJob, HookKind},
};

/// How many jobs of a kind may be there; a hook that hangs for a minute at every token of 10,000
/// accounts stays below it.
const MAX_JOBS: usize = 20_000;

/// What a command has printed.
pub type Output = io::Result<Vec<u8>>;

/// Whose a job is, and what to do at its end.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobOwner {
    /// What the job is for.
    pub kind: HookKind,
    /// The account, or words for all of them.
    pub account: Arc<str>,
    /// What its end is an answer to.
    pub attempt: Option<AttemptId>,
    /// What it reads.
    #[serde(skip)]
    pub input: Option<Arc<SecretBytes>>,
    /// Where its output arrives, if that is wanted.
    #[serde(skip)]
    pub output: Option<Receiver<Output>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    job: HookJob,
    owner: JobOwner,
    /// The process that runs it; without one, it waits.
    runner: Option<u32>,
    /// Whether the runner may have begun with it, and loses it when it is killed.
    begun: bool,
}

/// The jobs of each kind in their order: those that wait and those that a runner has. A successor gets
/// them as they are: none of them has a pipe then.
#[derive(Default, Serialize, Deserialize)]
pub struct HookQueues(BTreeMap<HookKind, BTreeMap<u64, Entry>>);

impl HookQueues {
    /// Puts a job at its queue's end; `Err` with whose it is when too many are there.
    pub fn enqueue(&mut self, job: HookJob, owner: JobOwner) -> Result<(), JobOwner> {
        let queue = self.0.entry(job.kind).or_default();
        if queue.len() >= MAX_JOBS {
            return Err(owner);
        }
        let entry = Entry {
            job,
            owner,
            runner: None,
            begun: false,
        };
        queue.insert(entry.job.id, entry);
        Ok(())
    }

    /// The next job that there is room for, and whose it is. It counts as running from now on.
    pub fn next(&mut self, runner: u32) -> Option<(HookJob, &mut JobOwner)> {
        let next = self.0.iter_mut().find_map(|(kind, queue)| {
            let mut first = queue.values_mut().take(room(*kind));
            first.find(|entry| entry.runner.is_none())
        })?;
        next.runner = Some(runner);
        Some((next.job.clone(), &mut next.owner))
    }

    /// The runner has begun with a job.
    pub fn begun(&mut self, id: u64) {
        if let Some(entry) = self.0.values_mut().find_map(|queue| queue.get_mut(&id)) {
            entry.begun = true;
        }
    }

    /// A job's end, and whose it was.
    pub fn ended(&mut self, id: u64) -> Option<JobOwner> {
        let ended = self.0.values_mut().find_map(|queue| queue.remove(&id));
        ended.map(|entry| entry.owner)
    }

    /// Drops the reminders of a sign-in that is over; returns those that a runner must end.
    pub fn end(&mut self, attempt: AttemptId) -> Vec<u64> {
        let queue = self.0.entry(HookKind::Notify).or_default();
        let meant = |entry: &Entry| entry.owner.attempt == Some(attempt);
        queue.retain(|_, entry| !meant(entry) || entry.runner.is_some());
        let ended = queue.iter_mut().filter(|(_, entry)| meant(entry));
        ended
            .map(|(id, entry)| {
                entry.begun = true;
                *id
            })
            .collect()
    }

    /// This runner is gone. What it hadn't begun with waits again, in its old place; the rest is
    /// lost.
    pub fn lose(&mut self, runner: u32) -> Vec<(u64, JobOwner)> {
        let mut lost = Vec::new();
        for queue in self.0.values_mut() {
            for (id, mut entry) in std::mem::take(queue) {
                let was_its = entry.runner == Some(runner);
                if was_its && entry.begun {
                    lost.push((id, entry.owner));
                } else {
                    entry.runner = entry.runner.filter(|_| !was_its);
                    queue.insert(id, entry);
                }
            }
        }
        lost
    }

    /// There won't be a runner any more: nothing runs or waits.
    pub fn give_up(&mut self) -> Vec<(u64, JobOwner)> {
        let entries = std::mem::take(&mut self.0).into_values().flatten();
        entries.map(|(id, entry)| (id, entry.owner)).collect()
    }

    /// Whether a job of one of these kinds waits or runs.
    pub fn has(&self, kinds: &[HookKind]) -> bool {
        let mut queues = kinds.iter().filter_map(|kind| self.0.get(kind));
        queues.any(|queue| !queue.is_empty())
    }

    /// Whether this runner has a job.
    pub fn has_jobs_of(&self, runner: u32) -> bool {
        let mut entries = self.0.values().flat_map(BTreeMap::values);
        entries.any(|entry| entry.runner == Some(runner))
    }
}

/// How many hooks of a kind run at once: so many of those that came first.
fn room(kind: HookKind) -> usize {
    match kind {
        // Their order is promised.
        HookKind::Event | HookKind::Error | HookKind::Startup => 1,
        // A state that is being replaced must not be read or replaced at once.
        HookKind::Load | HookKind::Save => 1,
        // A network that is down fails every account at once.
        HookKind::Probe | HookKind::Secret | HookKind::Token | HookKind::Requester => 4,
        // Each may wait for a click for a quarter of an hour.
        HookKind::Notify => 64,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RUNNER: u32 = 7;

    /// Queues a job, with its number as its command.
    fn put(queues: &mut HookQueues, id: u64, kind: HookKind, attempt: Option<u64>) {
        let job = HookJob {
            capability: Default::default(),
            id,
            kind,
            command: id.to_string(),
            env: Vec::new(),
            limit: Duration::from_secs(1),
            pipe: None,
        };
        let owner = JobOwner {
            kind,
            account: "work".into(),
            attempt: attempt.map(AttemptId),
            input: None,
            output: None,
        };
        assert!(queues.enqueue(job, owner).is_ok());
    }

    fn begin(queues: &mut HookQueues) -> Vec<u64> {
        std::iter::from_fn(|| queues.next(RUNNER).map(|(job, _)| job.id)).collect()
    }

    fn numbers(lost: Vec<(u64, JobOwner)>) -> Vec<u64> {
        let mut numbers: Vec<u64> = lost.into_iter().map(|(id, _)| id).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn a_queue_keeps_its_order_and_holds_up_no_other() {
        let mut queues = HookQueues::default();
        for id in 1..=3 {
            put(&mut queues, id, HookKind::Event, None);
        }
        for id in 4..=9 {
            put(&mut queues, id, HookKind::Probe, None);
        }
        assert_eq!(begin(&mut queues), [1, 4, 5, 6, 7]);
        assert!(queues.ended(1).is_some() && queues.ended(1).is_none());
        assert_eq!(begin(&mut queues), [2]);
        queues.ended(5);
        queues.ended(6);
        queues.ended(2);
        assert_eq!(begin(&mut queues), [3, 8, 9]);
        assert!(queues.has(&[HookKind::Error, HookKind::Event]) && !queues.has(&[HookKind::Error]));
    }

    #[test]
    fn what_a_lost_runner_had_not_begun_is_begun_by_the_next_in_order() {
        let mut queues = HookQueues::default();
        for id in 1..=6 {
            put(&mut queues, id, HookKind::Probe, None);
        }
        put(&mut queues, 7, HookKind::Event, None);
        put(&mut queues, 8, HookKind::Event, None);
        assert_eq!(begin(&mut queues), [7, 1, 2, 3, 4]);
        queues.begun(2);
        queues.begun(7);
        queues.ended(1);
        assert_eq!(numbers(queues.lose(RUNNER)), [2, 7]);
        assert_eq!(begin(&mut queues), [8, 3, 4, 5, 6]);
        assert_eq!(numbers(queues.give_up()), [3, 4, 5, 6, 8]);
        assert_eq!(begin(&mut queues), [0_u64; 0]);
    }

    #[test]
    fn the_reminders_of_a_finished_sign_in_are_dropped_or_ended() {
        let mut queues = HookQueues::default();
        for id in 1..=66 {
            put(&mut queues, id, HookKind::Notify, Some(id % 2));
        }
        assert_eq!(begin(&mut queues).len(), 64);
        queues.begun(1);
        let mut ended = queues.end(AttemptId(1));
        ended.sort_unstable();
        assert_eq!(ended, (1..=63).step_by(2).collect::<Vec<_>>());
        // Those don't come back, and 65 isn't begun.
        assert_eq!(numbers(queues.lose(RUNNER)), ended);
        assert_eq!(begin(&mut queues).len(), 33);
    }

    #[test]
    fn a_successor_goes_on_in_the_same_place() {
        let mut queues = HookQueues::default();
        for id in 1..=4 {
            put(&mut queues, id, HookKind::Event, Some(id));
        }
        assert_eq!(begin(&mut queues), [1]);
        let json = serde_json::to_vec(&queues).unwrap();
        let mut queues: HookQueues = serde_json::from_slice(&json).unwrap();
        assert!(queues.has_jobs_of(RUNNER) && !queues.has_jobs_of(RUNNER + 1));
        assert_eq!(numbers(queues.lose(RUNNER + 1)), [0_u64; 0]);
        assert_eq!(begin(&mut queues), [0_u64; 0]);
        assert_eq!(numbers(queues.lose(RUNNER)), [0_u64; 0]);
        assert_eq!(begin(&mut queues), [1]);
        queues.begun(1);
        assert_eq!(queues.ended(1).unwrap().attempt, Some(AttemptId(1)));
        assert_eq!(begin(&mut queues), [2]);
    }

    #[test]
    fn a_queue_that_is_full_takes_no_more() {
        let mut queues = HookQueues::default();
        for id in 0..MAX_JOBS as u64 {
            put(&mut queues, id, HookKind::Event, None);
        }
        let waiting = queues.0.get_mut(&HookKind::Event).unwrap();
        let (_, Entry { job, owner, .. }) = waiting.pop_last().unwrap();
        put(&mut queues, MAX_JOBS as u64, HookKind::Event, None);
        assert!(queues.enqueue(job, owner).is_err());
    }
}
