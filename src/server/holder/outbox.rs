//! What follows from the core's events, in the order of the events, whichever thread delivers it.
//!
//! Two threads that feed the core one after the other must not swap what follows, or a hook hears
//! of a token's end before its beginning. So a parcel is put here while the core is still locked,
//! and a thread that finds no other delivering delivers all there are, the oldest parcel first.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, ThreadId},
};

use crate::lock::Lock;

/// A queue whose parcels are delivered by those who put them there, in order.
pub struct Outbox<T> {
    sender: Sender<T>,
    /// Held by the thread that delivers.
    waiting: Mutex<Receiver<T>>,
    busy: Busy,
}

/// Which thread delivers.
type Busy = Lock<Option<ThreadId>>;

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        let (sender, waiting) = channel();
        Outbox {
            sender,
            waiting: Mutex::new(waiting),
            busy: Busy::default(),
        }
    }
}

impl<T> Outbox<T> {
    /// Queues a parcel. [`Outbox::deliver`] must follow.
    pub fn put(&self, parcel: T) {
        // The other end is in here, too.
        let _ = self.sender.send(parcel);
    }

    /// Returns when all that was put here before has been delivered, by this thread or by another; at
    /// once when this thread is just delivering: what follows from a parcel waits for its end.
    pub fn deliver(&self, deliver: impl Fn(T)) {
        let me = thread::current().id();
        if self.busy.with(|busy| *busy == Some(me)) {
            return;
        }
        // Nothing in here is half done when something panics.
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.busy.with(|busy| *busy = Some(me));
        let _done = Done(&self.busy);
        waiting.try_iter().for_each(deliver);
    }
}

/// Says that no thread delivers any more, also when one has panicked.
struct Done<'a>(&'a Busy);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.with(|busy| *busy = None);
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
                        let mine = *number;
                        outbox.put(mine);
                        drop(number);
                        outbox.deliver(|parcel| heard.lock().unwrap().push(parcel));
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
                outbox.put(2);
                outbox.deliver(|parcel| hear(outbox, heard, parcel));
            }
            heard.lock().unwrap().push(parcel);
        }
        let (outbox, heard) = (Outbox::default(), Mutex::new(Vec::new()));
        for parcel in [1, 3] {
            outbox.put(parcel);
            outbox.deliver(|parcel| hear(&outbox, &heard, parcel));
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
        outbox.put(1);
        outbox.put(2);
        let panicked = catch_unwind(AssertUnwindSafe(|| outbox.deliver(hear)));
        assert!(panicked.is_err());
        outbox.deliver(hear);
        assert_eq!(*heard.lock().unwrap(), [2]);
    }
}
