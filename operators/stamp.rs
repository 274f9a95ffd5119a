//! A file as the system knows it: whether it may have changed since it was looked at, without reading it.
//!
//! Size, inode and both times, of the content and of the inode: `touch` and `cp -p` set the one, nobody sets the other. A file that
//! was written to within a tick of the clock looks the same before and after, so a stamp that was taken of a file that was
//! just written to proves nothing ([`Stamp::settled`]).

use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// File systems keep times to 2 s at worst.
const TICK: Duration = Duration::from_secs(2);

/// What the system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    bytes: u64,
    inode: u64,
    /// Seconds and nanoseconds since 1970 of the last change of the content.
    modified: (i64, i64),
    /// The same of the inode.
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of a file.
    #[must_use]
    pub fn of(file: &Metadata) -> Self {
        Self {
            bytes: file.size(),
            inode: file.ino(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// True where a later change cannot hide behind the same stamp: by `now` all ticks in which it was written are over.
    #[must_use]
    pub fn settled(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(UNIX_EPOCH) else { return false };
        let Some(over) = now.checked_sub(TICK) else { return false };
        let before = |(seconds, nanoseconds): (i64, i64)| {
            (seconds, nanoseconds) < (i64::try_from(over.as_secs()).unwrap_or(0), i64::from(over.subsec_nanos()))
        };
        before(self.modified) && before(self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_settled_when_its_tick_is_over() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let stamp = Stamp::of(&path.path().metadata().unwrap());
        let now = SystemTime::now();
        assert!(!stamp.settled(now));
        assert!(stamp.settled(now + Duration::from_secs(3)));
        // Only what is written now or later (a clock that is ahead) may still change unseen.
        assert!(!Stamp { modified: (i64::MAX, 0), ..stamp }.settled(now + Duration::from_secs(3)));
        assert!(!stamp.settled(UNIX_EPOCH));
    }
}
