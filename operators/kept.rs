//! What a step has opened and may use again in the next go, where goes follow each other in one process (a watch).
//!
//! Invariant: what is kept under a key is the same as what would be opened anew under it: so the key says all that it depends on. A
//! run that ends after one go keeps nothing ([`Runtime::kept`](crate::work::Runtime::kept) is none).

use std::any::Any;
use std::sync::{Mutex, PoisonError};

/// No more than this is kept; the oldest goes first.
const MOST: usize = 64;

/// Things by key, several under one.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Vec<(String, Box<dyn Any + Send>)>>);

impl Kept {
    /// One of the things under a key, which is not here any more then.
    pub fn take<T: 'static>(&self, key: &str) -> Option<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().rposition(|(known, thing)| known == key && thing.is::<T>())?;
        all.remove(at).1.downcast().ok().map(|thing| *thing)
    }

    /// Keeps a thing.
    pub fn put<T: Any + Send>(&self, key: String, thing: T) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == MOST {
            all.remove(0);
        }
        all.push((key, Box::new(thing)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_back_once_and_the_oldest_go() {
        let kept = Kept::default();
        kept.put("a".into(), 1_u8);
        kept.put("a".into(), 2_u8);
        kept.put("a".into(), "other");
        assert_eq!((kept.take("a"), kept.take("a"), kept.take::<u8>("a")), (Some(2_u8), Some(1_u8), None));
        assert_eq!((kept.take::<&str>("b"), kept.take("a")), (None, Some("other")));
        (0..=MOST).for_each(|n| kept.put(n.to_string(), n));
        assert_eq!((kept.take::<usize>("0"), kept.take("1")), (None, Some(1_usize)));
    }
}
