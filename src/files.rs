//! Files that are there whole or not at all: written beside, fsynced, renamed, the folder fsynced.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long what may pass is waited for: a server that is started again, a disk on which somebody makes room.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether and when something is tried again that has failed.
pub struct Patience {
    start: Instant,
    wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { start: Instant::now(), wait: Duration::from_millis(200) }
    }
}

impl Patience {
    /// Waits and says true where the failure may pass and there is patience left; `stop` ends the wait.
    pub fn again(&mut self, error: &anyhow::Error, stop: &dyn Fn() -> bool) -> bool {
        if !may_pass(error) || self.start.elapsed() + self.wait > PATIENCE {
            return false;
        }
        tracing::warn!("{error:#}; trying again in {:?}", self.wait);
        let until = Instant::now() + self.wait;
        while Instant::now() < until {
            if stop() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.wait = (2 * self.wait).min(Duration::from_secs(10));
        true
    }
}

/// True for failures of storage that often pass by themselves.
fn may_pass(error: &anyhow::Error) -> bool {
    use rustix::io::Errno;
    let passing =
        [Errno::IO, Errno::STALE, Errno::NOSPC, Errno::DQUOT, Errno::TIMEDOUT, Errno::AGAIN, Errno::HOSTDOWN, Errno::REMOTEIO];
    let number = |e: &(dyn std::error::Error + 'static)| e.downcast_ref::<std::io::Error>()?.raw_os_error();
    error.chain().filter_map(number).any(|n| passing.iter().any(|p| p.raw_os_error() == n))
}

/// Makes a rename in `folder` survive a power cut.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).with_context(|| format!("cannot sync the folder {}", folder.display()))
}

/// Makes a folder, so that it survives a power cut as well.
pub fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Writes a file whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file in a folder")?;
    make_folder(folder)?;
    let beside = path.with_extension("part-written");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    sync_folder(folder)
}

/// Renames a file that is already fsynced to its final place.
pub fn settle(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file in a folder")?;
    make_folder(folder)?;
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_until_the_run_stops() {
        let error = |number| anyhow::Error::new(std::io::Error::from_raw_os_error(number)).context("cannot read x");
        let mut patience = Patience { start: Instant::now(), wait: Duration::from_millis(1) };
        assert!(patience.again(&error(rustix::io::Errno::STALE.raw_os_error()), &|| false));
        assert!(!patience.again(&error(rustix::io::Errno::STALE.raw_os_error()), &|| true));
        assert!(!patience.again(&error(rustix::io::Errno::ACCESS.raw_os_error()), &|| false));
        let mut spent = Patience { wait: PATIENCE, ..Patience::default() };
        assert!(!spent.again(&error(rustix::io::Errno::IO.raw_os_error()), &|| false));
    }
}
