//! One run at a time in a run folder.
//!
//! The lock is a file made with O_EXCL that holds host, process and job; its owner rewrites it as a heartbeat. It is stale
//! when three beats were missed, or at once when its process is gone from this very host: a job killed at the wall time
//! must not keep its successor waiting, and a lock of a dead node must not keep anybody out for ever. Beats are watched for,
//! never compared with this host's clock: two hosts' clocks may differ by any amount. A process that was stopped for so long
//! that another took its lock away finds that out before it commits anything.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const BEAT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    host: String,
    process: u32,
    /// When that process started, in the kernel's ticks: a process number alone may have been given again.
    #[serde(default)]
    started: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    beat: u64,
}

/// The lock of a run folder; gone when dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
    stop: Option<mpsc::Sender<()>>,
    heart: Option<JoinHandle<()>>,
}

impl Lock {
    /// Takes the lock of a folder, or says who has it. One that another host has left behind is watched for three beats first.
    pub fn take(folder: &Path) -> Result<Self> {
        Self::take_with(folder, BEAT)
    }

    /// The same of a lock of another name, for others than runs: `taken` says what it means that somebody has it, `help` what to do.
    pub fn take_named(folder: &Path, name: &str, taken: &str, help: &str) -> Result<Self> {
        Self::take_as(folder, name, (taken, help), BEAT)
    }

    fn take_with(folder: &Path, every: Duration) -> Result<Self> {
        let taken = format!("another run is at work in {}", folder.display());
        Self::take_as(folder, "lock", (&taken, "wait for it, or choose another `out`"), every)
    }

    fn take_as(folder: &Path, name: &str, (taken, help): (&str, &str), every: Duration) -> Result<Self> {
        let path = folder.join(name);
        let mut owner = Owner {
            host: host(),
            process: std::process::id(),
            started: start_ticks(std::process::id()).unwrap_or_default(),
            job: std::env::var("SLURM_JOB_ID").ok(),
            beat: 0,
        };
        for _ in 0..3 {
            owner.beat = now();
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    file.write_all_at(&serde_json::to_vec(&owner)?, 0)?;
                    let (stop, stopped) = mpsc::channel();
                    // Through the open file and in place: who reads it never finds it empty, and a lock that somebody else
                    // has taken by then is not written over.
                    let at = file.try_clone()?;
                    let heart = std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
                        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                            owner.beat = now();
                            // A missed beat is no reason to stop: three of them are, for somebody else.
                            let _ = serde_json::to_vec(&owner).map(|bytes| at.write_all_at(&bytes, 0));
                        }
                    })?;
                    return Ok(Self { path, file, stop: Some(stop), heart: Some(heart) });
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    let Ok(text) = fs::read(&path) else { continue };
                    let held: Option<Owner> = serde_json::from_slice(&text).ok();
                    if live(&path, &text, held.as_ref(), every) {
                        bail!("{taken}{}; {help}", held.map(|h| h.to_string()).unwrap_or_default());
                    }
                    set_aside(&path, &text);
                }
                Err(e) => return Err(e).with_context(|| format!("cannot write into {}", folder.display())),
            }
        }
        bail!("the lock {} keeps coming back; another process is starting in the same folder", path.display())
    }
}

/// Who holds the lock of this name, in words; none where nobody does. One that is stale is removed.
pub fn holder(folder: &Path, name: &str) -> Option<String> {
    let path = folder.join(name);
    let text = fs::read(&path).ok()?;
    let held: Option<Owner> = serde_json::from_slice(&text).ok();
    if live(&path, &text, held.as_ref(), BEAT) {
        return Some(held.map(|h| h.to_string()).unwrap_or_default());
    }
    set_aside(&path, &text);
    None
}

/// True where the owner of a lock is alive.
fn live(path: &Path, text: &[u8], held: Option<&Owner>, every: Duration) -> bool {
    // One without an owner was made and not written yet, or left so by a kill.
    match held.filter(|held| held.host == host()) {
        Some(held) => start_ticks(held.process) == Some(held.started),
        None => beats(path, text, 3 * every),
    }
}

/// Removes a lock that was found stale. Renamed first: of two that find it stale only one moves it away.
fn set_aside(path: &Path, text: &[u8]) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{name}-stale-{}-{}", host(), std::process::id()));
    if fs::rename(path, &aside).is_ok() {
        // Somebody may have been faster: then this is a fresh lock, which goes back.
        if fs::read(&aside).is_ok_and(|moved| moved != text) {
            let _ = fs::hard_link(&aside, path);
        }
        let _ = fs::remove_file(&aside);
    }
}

impl Lock {
    /// An error where somebody else has taken the lock away.
    pub fn check(&self) -> Result<()> {
        let (ours, there) = (self.file.metadata()?, fs::metadata(&self.path));
        let same = there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        ensure!(same, "another run has taken the lock {} away (this process stood still?)", self.path.display());
        Ok(())
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, " (host {}, process {}", self.host, self.process)?;
        self.job.iter().try_for_each(|job| write!(f, ", job {job}"))?;
        f.write_str(")")
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
        if self.check().is_ok() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// True as soon as the lock is another than it was; false when it has stayed the same for so long.
fn beats(path: &Path, was: &[u8], long: Duration) -> bool {
    let start = Instant::now();
    tracing::info!("watching {} for {long:?}: is its owner alive?", path.display());
    while start.elapsed() < long {
        std::thread::sleep(long / 100);
        if !fs::read(path).is_ok_and(|is| is == was) {
            return true;
        }
    }
    false
}

/// The name of this machine.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or_default()
}

fn start_ticks(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; the start time is the 20th field behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next() == Some("Z") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_refused_and_a_dead_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let beat = Duration::from_millis(40);
        let lock = Lock::take_with(folder.path(), beat).unwrap();
        let message = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(message.contains("another run is at work in"), "{message}");
        lock.check().unwrap();
        fs::write(folder.path().join("lock"), b"").unwrap();
        assert!(Lock::take_with(folder.path(), beat).is_err(), "one that is being written is not stale");
        fs::remove_file(folder.path().join("lock")).unwrap();
        fs::write(folder.path().join("lock"), b"somebody else").unwrap();
        assert!(lock.check().is_err());
        drop(lock);
        assert!(folder.path().join("lock").exists(), "what is not ours stays");
        let dead = Owner { host: host(), process: u32::MAX - 1, started: 7, job: None, beat: now() };
        fs::write(folder.path().join("lock"), serde_json::to_vec(&dead).unwrap()).unwrap();
        drop(Lock::take(folder.path()).unwrap());
        // Whatever the clock of another host says: a lock whose beat changes is held, one whose beat does not is stale.
        for clock in [0, now(), u64::MAX - 9] {
            let far = |beat| serde_json::to_vec(&Owner { host: "elsewhere".into(), beat, ..dead.clone() }).unwrap();
            fs::write(folder.path().join("lock"), far(clock)).unwrap();
            let taken = std::thread::scope(|scope| {
                let waiting = scope.spawn(|| Lock::take_with(folder.path(), beat));
                std::thread::sleep(beat);
                fs::write(folder.path().join("lock"), far(clock + 1)).unwrap();
                waiting.join().unwrap()
            });
            assert!(taken.is_err(), "two missed beats are not three");
            drop(Lock::take_with(folder.path(), beat).unwrap());
        }
        assert!(!folder.path().join("lock").exists());
    }
}
