//! What follows from the core's events, in the order of the events, whichever thread delivers it.
//!
//! Two threads that feed the core one after the other must not swap what follows, or a hook hears
//! of a token's end before its beginning. So a parcel is put here while the core is still locked,
//! and a thread that finds no other delivering delivers, the oldest parcel first.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

/// A queue whose parcels are delivered by those who put them there, in order.
pub struct Outbox<T> {
    state: Mutex<State<T>>,
    /// Told after every delivery.
    delivered: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    put: Ticket,
    delivered: Ticket,
    /// The last that followed from a delivery: the delivering thread goes on until then.
    owed: Ticket,
    /// Who delivers.
    busy: Option<ThreadId>,
}

/// A parcel's number; those before it have lower ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

impl Ticket {
    fn next(self) -> Self {
        Ticket(self.0.saturating_add(1))
    }
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Outbox {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                put: Ticket(0),
                delivered: Ticket(0),
                owed: Ticket(0),
                busy: None,
            }),
            delivered: Condvar::new(),
        }
    }
}

impl<T> Outbox<T> {
    /// Queues a parcel. [`Outbox::deliver`] must follow.
    pub fn put(&self, parcel: T) -> Ticket {
        let mut state = self.lock();
        state.waiting.push_back(parcel);
        state.put = state.put.next();
        state.put
    }

    /// Returns when the parcel has been delivered, by this thread or by another; at once when this
    /// thread is just delivering one that this one followed from: then it is next.
    pub fn deliver(&self, ticket: Ticket, deliver: impl Fn(T)) {
        let me = thread::current().id();
        let mut state = self.lock();
        if state.busy == Some(me) {
            state.owed = ticket;
            return;
        }
        while state.delivered < ticket.max(state.owed) {
            if state.busy.is_some() {
                let woken = self.delivered.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            } else if let Some(parcel) = state.waiting.pop_front() {
                state.busy = Some(me);
                drop(state);
                let done = Done(self);
                deliver(parcel);
                drop(done);
                state = self.lock();
            } else {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here is half done when something panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a parcel has been delivered, also when that has panicked.
struct Done<'a, T>(&'a Outbox<T>);

impl<T> Drop for Done<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.busy = None;
        state.delivered = state.delivered.next();
        drop(state);
        self.0.delivered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{Barrier, Mutex},
    };

    use super::*;

    #[test]
    fn what_threads_put_in_one_order_is_delivered_in_that_order() {
        const THREADS: u64 = 4;
        const EACH: u64 = 500;
        let (outbox, next, heard) = (Outbox::default(), Mutex::new(0), Mutex::new(Vec::new()));
        let together = Barrier::new(THREADS as usize);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    together.wait();
                    for _ in 0..EACH {
                        // As the core's lock does, this one says who was first.
                        let mut number = next.lock().unwrap();
                        *number += 1;
                        let (mine, ticket) = (*number, outbox.put(*number));
                        drop(number);
                        outbox.deliver(ticket, |parcel| heard.lock().unwrap().push(parcel));
                        // It returns only when it has been done.
                        assert!(heard.lock().unwrap().contains(&mine));
                    }
                });
            }
        });
        assert_eq!(
            *heard.lock().unwrap(),
            (1..=THREADS * EACH).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_follows_from_a_delivery_comes_next() {
        fn hear(outbox: &Outbox<u32>, heard: &Mutex<Vec<u32>>, parcel: u32) {
            if parcel == 1 {
                let ticket = outbox.put(2);
                outbox.deliver(ticket, |parcel| hear(outbox, heard, parcel));
            }
            heard.lock().unwrap().push(parcel);
        }
        let (outbox, heard) = (Outbox::default(), Mutex::new(Vec::new()));
        for parcel in [1, 3] {
            let ticket = outbox.put(parcel);
            outbox.deliver(ticket, |parcel| hear(&outbox, &heard, parcel));
        }
        assert_eq!(*heard.lock().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_panic_costs_one_parcel() {
        let (outbox, heard) = (Outbox::default(), Mutex::new(Vec::new()));
        let hear = |parcel| {
            assert_ne!(parcel, 1, "on purpose");
            heard.lock().unwrap().push(parcel);
        };
        let first = outbox.put(1);
        let second = outbox.put(2);
        let panicked = catch_unwind(AssertUnwindSafe(|| outbox.deliver(first, hear)));
        assert!(panicked.is_err());
        outbox.deliver(second, hear);
        assert_eq!(*heard.lock().unwrap(), [2]);
    }
}
