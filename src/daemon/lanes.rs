//! Which hook runs when: those of one lane in order, and so many of them at once. Pure, but for the
//! descriptors that wait along with the jobs that they are for.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    os::fd::OwnedFd,
    sync::{Arc, mpsc::Receiver},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::job::{Job, Lane};
use crate::core::AttemptId;

/// How many jobs may wait in a lane; a hook that hangs for a minute at every token of 10,000
/// accounts stays below it.
const MAX_WAITING: usize = 20_000;

/// What a command has printed.
pub type Output = io::Result<Zeroizing<Vec<u8>>>;

/// Whose a job is, and what to do at its end.
pub struct Whose {
    pub lane: Lane,
    pub account: Arc<str>,
    /// What its end is an answer to.
    pub attempt: Option<AttemptId>,
    /// Where its output arrives, if that is wanted.
    pub output: Option<Receiver<Output>>,
}

struct Waiting {
    job: Job,
    pipe: Option<OwnedFd>,
    whose: Whose,
}

struct Running {
    whose: Whose,
    /// The job itself, as long as the runner may lose it without having begun.
    unbegun: Option<Job>,
}

/// The jobs that wait and those that the runner has.
#[derive(Default)]
pub struct Lanes {
    waiting: BTreeMap<Lane, VecDeque<Waiting>>,
    running: HashMap<u64, Running>,
}

/// What a successor needs to know of a job.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    id: u64,
    lane: Lane,
    account: Arc<str>,
    attempt: Option<u64>,
    /// The job itself, unless it has begun.
    job: Option<Job>,
}

/// What a successor needs to know.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanesState {
    waiting: Vec<Noted>,
    running: Vec<Noted>,
}

impl Lanes {
    /// Puts a job at its lane's end; `Err` with whose it is when too many are there.
    pub fn enqueue(&mut self, job: Job, pipe: Option<OwnedFd>, whose: Whose) -> Result<(), Whose> {
        let lane = self.waiting.entry(job.lane).or_default();
        if lane.len() >= MAX_WAITING {
            return Err(whose);
        }
        lane.push_back(Waiting { job, pipe, whose });
        Ok(())
    }

    /// The next job that its lane has room for. It counts as running from now on.
    pub fn next(&mut self) -> Option<(Job, Option<OwnedFd>)> {
        let running = &self.running;
        let has_room = |lane: Lane| {
            let running = running.values().filter(|it| it.whose.lane == lane);
            running.count() < room(lane)
        };
        let mut open = (self.waiting.iter_mut()).filter(|(lane, _)| has_room(**lane));
        let Waiting { job, pipe, whose } = open.find_map(|(_, queue)| queue.pop_front())?;
        let unbegun = Some(job.clone());
        self.running.insert(job.id, Running { whose, unbegun });
        Some((job, pipe))
    }

    /// The runner has begun with a job.
    pub fn begun(&mut self, id: u64) {
        if let Some(running) = self.running.get_mut(&id) {
            running.unbegun = None;
        }
    }

    /// A job's end, and whose it was.
    pub fn ended(&mut self, id: u64) -> Option<Whose> {
        self.running.remove(&id).map(|running| running.whose)
    }

    /// Drops the reminders of a sign-in that is over; returns those that the runner must end.
    pub fn end(&mut self, attempt: AttemptId) -> Vec<u64> {
        let meant = |whose: &Whose| whose.lane == Lane::Notify && whose.attempt == Some(attempt);
        if let Some(queue) = self.waiting.get_mut(&Lane::Notify) {
            queue.retain(|waiting| !meant(&waiting.whose));
        }
        let running = self.running.iter_mut();
        let ended = running.filter(|(_, running)| meant(&running.whose));
        ended
            .map(|(id, running)| {
                running.unbegun = None;
                *id
            })
            .collect()
    }

    /// The runner is gone. What it hadn't begun with waits again, in its old place; the rest is
    /// lost, as is what had its pipe along.
    pub fn lose(&mut self) -> Vec<(u64, Whose)> {
        let mut lost = Vec::new();
        let mut running: Vec<(u64, Running)> = self.running.drain().collect();
        running.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        for (id, Running { whose, unbegun }) in running {
            match unbegun.filter(|job| job.pipe.is_none()) {
                Some(job) => {
                    let pipe = None;
                    let queue = self.waiting.entry(job.lane).or_default();
                    queue.push_front(Waiting { job, pipe, whose });
                }
                None => lost.push((id, whose)),
            }
        }
        lost
    }

    /// There won't be a runner any more: nothing runs or waits.
    pub fn give_up(&mut self) -> Vec<(u64, Whose)> {
        let running = self.running.drain().map(|(id, it)| (id, it.whose));
        let waiting = std::mem::take(&mut self.waiting).into_values().flatten();
        running
            .chain(waiting.map(|it| (it.job.id, it.whose)))
            .collect()
    }

    /// Whether a job of one of these lanes waits or runs.
    pub fn has(&self, lanes: &[Lane]) -> bool {
        let waits = |lane: &Lane| {
            self.waiting
                .get(lane)
                .is_some_and(|queue| !queue.is_empty())
        };
        let running = |lane: &Lane| self.running.values().any(|it| it.whose.lane == *lane);
        lanes.iter().any(|lane| waits(lane) || running(lane))
    }

    /// What there is to hand over; no job has a pipe then.
    pub fn state(&self) -> LanesState {
        let noted = |id: u64, whose: &Whose, job: Option<&Job>| Noted {
            id,
            lane: whose.lane,
            account: whose.account.clone(),
            attempt: whose.attempt.map(AttemptId::number),
            job: job.cloned(),
        };
        let waiting = self.waiting.values().flatten();
        let running = self.running.iter();
        LanesState {
            waiting: waiting
                .map(|it| noted(it.job.id, &it.whose, Some(&it.job)))
                .collect(),
            running: running
                .map(|(id, it)| noted(*id, &it.whose, it.unbegun.as_ref()))
                .collect(),
        }
    }

    /// Goes on with a predecessor's.
    pub fn adopt(state: LanesState) -> Self {
        let mut lanes = Lanes::default();
        let whose = |noted: &Noted| Whose {
            lane: noted.lane,
            account: noted.account.clone(),
            attempt: noted.attempt.map(AttemptId::from_number),
            output: None,
        };
        for noted in state.waiting {
            let whose = whose(&noted);
            if let Some(job) = noted.job {
                let queue = lanes.waiting.entry(noted.lane).or_default();
                let pipe = None;
                queue.push_back(Waiting { job, pipe, whose });
            }
        }
        for noted in state.running {
            let running = Running {
                whose: whose(&noted),
                unbegun: noted.job,
            };
            lanes.running.insert(noted.id, running);
        }
        lanes
    }
}

/// How many hooks of a lane run at once.
fn room(lane: Lane) -> usize {
    match lane {
        // Their order is promised.
        Lane::Event | Lane::Error | Lane::Startup => 1,
        // A state that is being replaced must not be read or replaced at once.
        Lane::Load | Lane::Save => 1,
        // A network that is down fails every account at once.
        Lane::Probe | Lane::Secret => 4,
        // Each may wait for a click for a quarter of an hour.
        Lane::Notify => 64,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Queues a job, with its number as its command.
    fn put(lanes: &mut Lanes, id: u64, lane: Lane, attempt: Option<u64>) {
        let job = Job {
            seal: Default::default(),
            id,
            lane,
            command: id.to_string(),
            env: Vec::new(),
            limit: Duration::from_secs(1),
            pipe: None,
        };
        let whose = Whose {
            lane,
            account: "work".into(),
            attempt: attempt.map(AttemptId::from_number),
            output: None,
        };
        assert!(lanes.enqueue(job, None, whose).is_ok());
    }

    fn begin(lanes: &mut Lanes) -> Vec<u64> {
        std::iter::from_fn(|| lanes.next().map(|(job, _)| job.id)).collect()
    }

    fn numbers(lost: Vec<(u64, Whose)>) -> Vec<u64> {
        let mut numbers: Vec<u64> = lost.into_iter().map(|(id, _)| id).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn a_lane_keeps_its_order_and_holds_up_no_other() {
        let mut lanes = Lanes::default();
        for id in 1..=3 {
            put(&mut lanes, id, Lane::Event, None);
        }
        for id in 4..=9 {
            put(&mut lanes, id, Lane::Probe, None);
        }
        assert_eq!(begin(&mut lanes), [1, 4, 5, 6, 7]);
        assert!(lanes.ended(1).is_some() && lanes.ended(1).is_none());
        assert_eq!(begin(&mut lanes), [2]);
        lanes.ended(5);
        lanes.ended(6);
        lanes.ended(2);
        assert_eq!(begin(&mut lanes), [3, 8, 9]);
        assert!(lanes.has(&[Lane::Error, Lane::Event]) && !lanes.has(&[Lane::Error]));
    }

    #[test]
    fn what_a_lost_runner_had_not_begun_is_begun_by_the_next_in_order() {
        let mut lanes = Lanes::default();
        for id in 1..=6 {
            put(&mut lanes, id, Lane::Probe, None);
        }
        put(&mut lanes, 7, Lane::Event, None);
        put(&mut lanes, 8, Lane::Event, None);
        assert_eq!(begin(&mut lanes), [7, 1, 2, 3, 4]);
        lanes.begun(2);
        lanes.begun(7);
        lanes.ended(1);
        assert_eq!(numbers(lanes.lose()), [2, 7]);
        assert_eq!(begin(&mut lanes), [8, 3, 4, 5, 6]);
        assert_eq!(numbers(lanes.give_up()), [3, 4, 5, 6, 8]);
        assert_eq!(begin(&mut lanes), [0_u64; 0]);
    }

    #[test]
    fn the_reminders_of_a_finished_sign_in_are_dropped_or_ended() {
        let mut lanes = Lanes::default();
        for id in 1..=66 {
            put(&mut lanes, id, Lane::Notify, Some(id % 2));
        }
        assert_eq!(begin(&mut lanes).len(), 64);
        lanes.begun(1);
        let mut ended = lanes.end(AttemptId::from_number(1));
        ended.sort_unstable();
        assert_eq!(ended, (1..=63).step_by(2).collect::<Vec<_>>());
        // Those don't come back, and 65 isn't begun.
        assert_eq!(numbers(lanes.lose()), ended);
        assert_eq!(begin(&mut lanes).len(), 33);
    }

    #[test]
    fn a_successor_goes_on_in_the_same_place() {
        let mut lanes = Lanes::default();
        for id in 1..=4 {
            put(&mut lanes, id, Lane::Event, Some(id));
        }
        assert_eq!(begin(&mut lanes), [1]);
        let json = serde_json::to_vec(&lanes.state()).unwrap();
        let mut lanes = Lanes::adopt(serde_json::from_slice(&json).unwrap());
        assert_eq!(begin(&mut lanes), [0_u64; 0]);
        assert_eq!(numbers(lanes.lose()), [0_u64; 0]);
        assert_eq!(begin(&mut lanes), [1]);
        lanes.begun(1);
        assert_eq!(
            lanes.ended(1).unwrap().attempt,
            Some(AttemptId::from_number(1))
        );
        assert_eq!(begin(&mut lanes), [2]);
    }

    #[test]
    fn a_lane_that_is_full_takes_no_more() {
        let mut lanes = Lanes::default();
        for id in 0..MAX_WAITING as u64 {
            put(&mut lanes, id, Lane::Event, None);
        }
        let Waiting { job, pipe, whose } = lanes
            .waiting
            .get_mut(&Lane::Event)
            .unwrap()
            .pop_back()
            .unwrap();
        put(&mut lanes, MAX_WAITING as u64, Lane::Event, None);
        assert!(lanes.enqueue(job, pipe, whose).is_err());
    }
}
