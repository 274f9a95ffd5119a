//! The first thing that went wrong on any worker or thread; it stops all of them.
//!
//! A panic in one timely worker leaves the others waiting for ever, so nothing may unwind out of a worker unseen: every
//! loop looks here, and every thread reports here.

use anyhow::{Error, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use timely::scheduling::SyncActivator;

/// True for the panics with which timely says that a connection is gone.
pub fn disconnected(panic: &(dyn Any + Send)) -> bool {
    let words = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let known = ["MergeQueue poisoned", "timely communication error", "Send thread panic", "Recv thread panic"];
    words.is_some_and(|w| known.iter().any(|k| w.contains(k)))
}

/// A slot for the first failure, shared by everything in this process.
#[derive(Debug, Clone, Default)]
pub struct Failure {
    raised: Arc<AtomicBool>,
    first: Arc<Mutex<Option<Error>>>,
}

impl Failure {
    /// Reports a failure; only the first is kept.
    pub fn raise(&self, error: Error) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.raised.store(true, Ordering::SeqCst);
    }

    /// Reports a panic, in the words it was made with.
    pub fn panicked(&self, what: &str, panic: &(dyn Any + Send)) {
        let words = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        self.raise(anyhow::anyhow!("{what} panicked: {} (this is a mistake in calostream)", words.unwrap_or("no words")));
    }

    /// Runs `work` on a thread of its own. However it ends, an error or a panic of it is raised, and the operator is woken.
    pub fn thread(&self, name: &str, wake: SyncActivator, work: impl FnOnce() -> Result<()> + Send + 'static) {
        let (failure, title) = (self.clone(), name.to_owned());
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failure.raise(error),
                Err(panic) => failure.panicked(&title, panic.as_ref()),
            }
            let _ = wake.activate();
        });
        if let Err(error) = started {
            self.raise(Error::new(error).context(format!("cannot start the thread of `{name}`")));
        }
    }

    /// True when somebody has failed.
    pub fn raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// The first failure.
    pub fn take(&self) -> Option<Error> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
