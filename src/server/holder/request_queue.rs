//! Which request goes to a provider next, and how many workers there are to be. Pure: the shell
//! starts the workers and has them ask.

use std::collections::BTreeMap;

use crate::time::Instant;

/// How many refreshes are under way at once at one host: 200 tokens due together are done within a
/// second when each takes a tenth of one.
const MAX_REFRESHES_A_HOST: usize = 24;

/// How many there are at all, so that a host which hangs leaves others as many.
const MAX_REFRESHES: usize = 2 * MAX_REFRESHES_A_HOST;

/// How many workers there are at most: a few that refreshes never have, for those who wait to sign
/// in. They start only as they are needed.
const MAX_WORKERS: usize = MAX_REFRESHES + 8;

/// How many of them one host may keep busy, whatever it is asked for.
const MAX_WORKERS_A_HOST: usize = MAX_WORKERS / 2;

/// What waits, and what the workers do.
pub struct RequestQueue<T> {
    /// By when an answer is too late: where somebody waits to sign in, before all others; then in
    /// the order in which they came.
    waiting: BTreeMap<(Option<Instant>, u64), (String, T)>,
    count: u64,
    /// What each worker does, unless it is on its way to a request.
    workers: Vec<Option<Task>>,
}

/// What a worker is busy with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    host: String,
    is_refresh: bool,
}

impl<T> Default for RequestQueue<T> {
    fn default() -> Self {
        RequestQueue {
            waiting: BTreeMap::new(),
            count: 0,
            workers: Vec::new(),
        }
    }
}

impl<T> RequestQueue<T> {
    /// Adds a request of `host`; whether it needs another worker, for which there is a place then.
    pub fn add(&mut self, host: String, due: Option<Instant>, request: T) -> bool {
        let ready = self.has_room(&host, due);
        self.count = self.count.wrapping_add(1);
        self.waiting.insert((due, self.count), (host, request));
        // What waited before either can't be begun, or has a worker on its way.
        ready && self.hire()
    }

    /// A worker's next request, and whether there is another one for another worker, for which there
    /// is a place then. Workers start one after the other, so that there are no more than are needed.
    /// Without a request the worker's place is gone.
    pub fn take(&mut self) -> Option<(T, Task, bool)> {
        let next = self
            .ready()
            .and_then(|key| Some((key, self.waiting.remove(&key)?)));
        let idle = self.workers.iter().position(Option::is_none)?;
        let Some(((due, _), (host, request))) = next else {
            self.workers.swap_remove(idle);
            return None;
        };
        let is_refresh = due.is_some();
        let task = Task { host, is_refresh };
        if let Some(worker) = self.workers.get_mut(idle) {
            *worker = Some(task.clone());
        }
        let more = self.ready().is_some() && self.hire();
        Some((request, task, more))
    }

    /// A worker has done this, and comes for more.
    pub fn done(&mut self, task: &Task) {
        let mut workers = self.workers.iter_mut();
        if let Some(worker) = workers.find(|it| it.as_ref() == Some(task)) {
            *worker = None;
        }
    }

    /// There is no worker for the place that was made. Others go on; when there are none, nothing
    /// that waits comes to anything: that is given back.
    pub fn without_worker(&mut self) -> Vec<T> {
        if let Some(idle) = self.workers.iter().position(Option::is_none) {
            self.workers.swap_remove(idle);
        }
        if !self.workers.is_empty() {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting).into_values();
        waiting.map(|(_, request)| request).collect()
    }

    /// Whether no worker is left.
    pub fn is_idle(&self) -> bool {
        self.workers.is_empty()
    }

    /// Makes a place for another worker, unless one is on its way to a request or there are enough.
    fn hire(&mut self) -> bool {
        let wanted = self.workers.len() < MAX_WORKERS && self.workers.iter().all(Option::is_some);
        if wanted {
            self.workers.push(None);
        }
        wanted
    }

    /// The most urgent request whose host has room.
    fn ready(&self) -> Option<(Option<Instant>, u64)> {
        let mut waiting = self.waiting.iter();
        let ready = waiting.find(|((due, _), (host, _))| self.has_room(host, *due));
        ready.map(|(key, _)| *key)
    }

    fn has_room(&self, host: &str, due: Option<Instant>) -> bool {
        let busy = || self.workers.iter().flatten();
        let here = || busy().filter(|task| task.host == host);
        let refreshes = here().filter(|task| task.is_refresh).count();
        here().count() < MAX_WORKERS_A_HOST
            && (due.is_none()
                || (refreshes < MAX_REFRESHES_A_HOST
                    && busy().filter(|task| task.is_refresh).count() < MAX_REFRESHES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Requests<'a> = &'a [(&'a str, Option<u64>)];

    fn at(due: Option<u64>) -> Option<Instant> {
        due.map(Instant::from_millis)
    }

    /// Adds these, and begins what can be begun.
    fn begin(queue: &mut RequestQueue<String>, requests: Requests) -> Vec<(String, Task)> {
        let mut begun = Vec::new();
        for (host, due) in requests {
            let mut wanted = queue.add((*host).into(), at(*due), format!("{host}{due:?}"));
            while wanted {
                let (request, task, more) = queue.take().unwrap();
                begun.push((request, task));
                wanted = more;
            }
        }
        begun
    }

    #[test]
    fn a_host_that_hangs_leaves_half_of_the_workers_and_a_place_to_sign_in() {
        let mut queue = RequestQueue::default();
        assert_eq!(begin(&mut queue, &[("a", Some(1)); 200]).len(), 24);
        // Somebody waits, at that very host.
        assert_eq!(begin(&mut queue, &[("a", None); 50]).len(), 4);
        assert_eq!(begin(&mut queue, &[("b", Some(9)); 200]).len(), 24);
        assert_eq!(begin(&mut queue, &[("c", Some(9))]).len(), 0);
        assert_eq!(begin(&mut queue, &[("c", None)]).len(), 1);
        assert_eq!(begin(&mut queue, &[("b", None); 50]).len(), 3);
        assert_eq!(queue.workers.len(), MAX_WORKERS);
    }

    #[test]
    fn what_is_waited_for_comes_first_and_then_what_is_due() {
        let mut queue = RequestQueue::default();
        let begun = begin(&mut queue, &[("a", Some(0)); 24]);
        let later = [
            ("a", Some(30)),
            ("a", Some(10)),
            ("b", None),
            ("a", Some(20)),
            ("a", Some(10)),
        ];
        assert_eq!(begin(&mut queue, &later).len(), 1);
        queue.add("a".into(), None, "sign-in".into());
        let mut order = Vec::new();
        for (_, task) in begun.iter().take(5) {
            queue.done(task);
            order.push(queue.take().unwrap().0);
        }
        let wanted = ["a", "a", "a", "a"];
        assert_eq!(order.len(), wanted.len() + 1);
        assert_eq!(
            order,
            [
                "sign-in",
                "aSome(10)",
                "aSome(10)",
                "aSome(20)",
                "aSome(30)"
            ]
        );
        // Nothing is left: workers go.
        queue.done(&begun[5].1);
        assert!(queue.take().is_none());
    }

    /// Two hundred due at once, each answered after a tenth of a second.
    #[test]
    fn two_hundred_due_at_once_are_done_within_a_second() {
        let mut queue = RequestQueue::default();
        let all: Vec<_> = (0..200).map(|due| ("a", Some(due))).collect();
        let mut under_way = begin(&mut queue, &all);
        let mut rounds = 0;
        while !under_way.is_empty() {
            rounds += 1;
            for (_, task) in std::mem::take(&mut under_way) {
                queue.done(&task);
                under_way.extend(queue.take().map(|(request, task, _)| (request, task)));
            }
        }
        assert!(rounds <= 9, "{rounds}");
        assert!(queue.is_idle());
    }

    #[test]
    fn a_worker_on_its_way_is_enough_until_it_sees_that_there_is_more() {
        let mut queue = RequestQueue::default();
        assert!(queue.add("a".into(), None, 1));
        assert!(!queue.add("a".into(), None, 2) && !queue.add("b".into(), None, 3));
        assert_eq!(queue.workers.len(), 1);
        let (_, _, more) = queue.take().unwrap();
        assert!(more && queue.workers.len() == 2);
        let (_, _, more) = queue.take().unwrap();
        assert!(more && queue.workers.len() == 3);
        let (last, _, more) = queue.take().unwrap();
        assert!(!more && last == 3);
        // A thread that can't be had costs nothing as long as there are others.
        assert!(!queue.add("a".into(), None, 4) || queue.without_worker().is_empty());
    }

    #[test]
    fn without_any_worker_what_waits_is_given_back() {
        let mut queue = RequestQueue::default();
        assert!(
            queue.add("a".into(), None, 1)
                && !queue.add("b".into(), Some(Instant::from_millis(1)), 2)
        );
        assert_eq!(queue.without_worker(), [1, 2]);
        assert!(queue.is_idle() && queue.add("a".into(), None, 3));
    }
}
