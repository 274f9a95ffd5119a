//! Where batches go: standard output, a Unix socket, or a port of this machine. One consumer at a time.
//!
//! Nothing leaves the machine: data that others may not see would be open to whoever reaches the port. A socket that we made is
//! for its owner alone, and gone when the feed ends; one that a killed feed has left behind is replaced, any other file is not.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes that the system may hold between us and the consumer.
const BUFFER: usize = 4 << 20;
/// What the system has room for in the path of a socket, with the byte that ends it.
const PATH: usize = 108;

/// What was asked for with `--to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// `-`: standard output.
    Output,
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `tcp:127.0.0.1:PORT`.
    Tcp(SocketAddr),
}

impl FromStr for To {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if word == "-" {
            return Ok(Self::Output);
        }
        if let Some(path) = word.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return match path.len() {
                0..PATH => Ok(Self::Unix(path.into())),
                long => Err(format!(
                    "the path of a socket may have 107 bytes, and this one has {long}: choose a shorter one, in /tmp say"
                )),
            };
        }
        if let Some(address) = word.strip_prefix("tcp:") {
            let numeric = address.replacen("localhost:", "127.0.0.1:", 1);
            let at: SocketAddr = numeric.parse().map_err(|_| format!("`{address}` is no address: write tcp:127.0.0.1:PORT"))?;
            return if at.ip().is_loopback() {
                Ok(Self::Tcp(at))
            } else {
                Err(format!(
                    "{at} could be reached from other machines, and what is fed is not protected: only 127.0.0.1 may be used (from elsewhere: `ssh -L`)"
                ))
            };
        }
        Err("write `-` (standard output), unix:PATH or tcp:127.0.0.1:PORT".into())
    }
}

/// A place where a consumer is awaited; a socket is gone when it is dropped.
#[derive(Debug)]
pub enum Outlet {
    /// Standard output.
    Output,
    /// A Unix socket, and its path.
    Unix(UnixListener, Socket),
    /// A port.
    Tcp(TcpListener),
}

/// The file of a Unix socket; gone when dropped.
#[derive(Debug)]
pub struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Outlet {
    /// Opens it.
    pub fn open(to: &To) -> Result<Self> {
        match to {
            To::Output if std::io::stdout().is_terminal() => {
                bail!(
                    "standard output is a terminal, and batches are not for people: pipe it into a program, or use `--to unix:PATH`"
                )
            }
            To::Output => Ok(Self::Output),
            To::Unix(path) => {
                clear(path)?;
                // Nobody else may connect, from the first moment on.
                let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
                let whole = std::path::absolute(path).unwrap_or_default();
                let bound = UnixListener::bind(if whole.as_os_str().len() < PATH { &whole } else { path });
                rustix::process::umask(before);
                let listener = bound.with_context(|| format!("cannot make the socket {}", path.display()))?;
                Ok(Self::Unix(listener, Socket(path.clone())))
            }
            To::Tcp(at) => match TcpListener::bind(at) {
                Ok(listener) => Ok(Self::Tcp(listener)),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    bail!("port {} is in use by another program: choose another one, or 0 for any that is free", at.port())
                }
                Err(error) => Err(error).with_context(|| format!("cannot listen at {at}")),
            },
        }
    }

    /// Where a consumer finds it; none for standard output.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Output => None,
            Self::Unix(_, socket) => Some(format!("unix:{}", socket.0.display())),
            Self::Tcp(listener) => listener.local_addr().ok().map(|at| format!("tcp:{at}")),
        }
    }

    /// Waits for the consumer; `vain` says when that is of no use any more.
    pub fn accept(&self, vain: &dyn Fn() -> bool) -> Result<Box<dyn Write>> {
        Ok(match self {
            // Not through the standard library's buffer, which looks for ends of lines.
            Self::Output => Box::new(File::from(std::io::stdout().as_fd().try_clone_to_owned()?)),
            Self::Unix(listener, _) => {
                listener.set_nonblocking(true)?;
                let (stream, _) = await_one(|| listener.accept(), vain)?;
                stream.set_nonblocking(false)?;
                let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, BUFFER);
                let others = listener.try_clone()?;
                Box::new(Consumer { stream, _alone: Alone::with(move || others.accept().map(drop))? })
            }
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let (stream, _) = await_one(|| listener.accept(), vain)?;
                stream.set_nonblocking(false)?;
                let _ = stream.set_nodelay(true);
                let others = listener.try_clone()?;
                Box::new(Consumer { stream, _alone: Alone::with(move || others.accept().map(drop))? })
            }
        })
    }
}

/// The consumer. Others that connect meanwhile are turned away at once, so that they do not wait for batches that never come.
struct Consumer<S> {
    stream: S,
    _alone: Alone,
}

impl<S: Write> Write for Consumer<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// A thread that turns others away, until this is dropped.
struct Alone(Arc<AtomicBool>);

impl Alone {
    /// `turn_away` takes one that has connected, if there is one, and lets it go.
    fn with(turn_away: impl Fn() -> std::io::Result<()> + Send + 'static) -> std::io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let watch = move || {
            let mut said = false;
            while !ends.load(Ordering::Relaxed) {
                match turn_away() {
                    // Once is enough for one that tries again and again.
                    Ok(()) if !std::mem::replace(&mut said, true) => {
                        eprintln!(
                            "another consumer has connected and was turned away: a feed has one (others are ranks, each with its own `--to`)"
                        );
                    }
                    Ok(()) => {}
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        };
        std::thread::Builder::new().name("others".into()).spawn(watch)?;
        Ok(Self(over))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn await_one<T>(accept: impl Fn() -> std::io::Result<T>, vain: &dyn Fn() -> bool) -> Result<T> {
    loop {
        match accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && !vain() => std::thread::sleep(Duration::from_millis(10)),
            done => return done.context("nobody could be connected"),
        }
    }
}

/// Removes a socket that nobody listens on any more; an error where the path is something else.
fn clear(path: &Path) -> Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        bail!("{} is there already, and is no socket: choose another path", path.display());
    }
    let taken = || anyhow::anyhow!("another program listens on {}: choose another path", path.display());
    // Not by connecting, where that can be avoided: for the other one, that would be its consumer.
    if listening(path) {
        return Err(taken());
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(taken()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).with_context(|| format!("cannot remove {}, which a dead feed left", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot use the socket {}", path.display())),
    }
}

/// True where the system knows a socket of this path. Sockets are known by the path that they were given, so ours get a whole one.
fn listening(path: &Path) -> bool {
    let known = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let whole = std::path::absolute(path).unwrap_or_default();
    let is = |name: &str| Path::new(name) == path || Path::new(name) == whole;
    known.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7)).any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_of_this_machine_are_taken() {
        assert_eq!("-".parse(), Ok(To::Output));
        assert_eq!("unix:a/x".parse(), Ok(To::Unix("a/x".into())));
        assert!(matches!("tcp:127.0.0.1:0".parse(), Ok(To::Tcp(_))) && matches!("tcp:localhost:9".parse(), Ok(To::Tcp(_))));
        for (word, said) in [
            ("tcp:0.0.0.0:9", "other machines"),
            ("tcp:10.0.0.1:9", "other machines"),
            ("tcp:here", "no address"),
            ("unix:", "write `-`"),
            (&format!("unix:/{}", "x".repeat(107)), "107 bytes"),
        ] {
            let error = word.parse::<To>().unwrap_err();
            assert!(error.contains(said), "{word}: {error}");
        }
    }

    #[test]
    fn a_socket_is_for_its_owner_and_gone_in_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let outlet = Outlet::open(&To::Unix(path.clone())).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Outlet::open(&To::Unix(path.clone())).unwrap_err().to_string();
        assert!(again.contains("another program listens"), "{again}");
        drop(outlet);
        assert!(!path.exists());
        // As after a kill: the file stays, nobody listens.
        std::mem::drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Outlet::open(&To::Unix(path.clone())).unwrap());
        std::fs::write(&path, "mine").unwrap();
        let other = Outlet::open(&To::Unix(path.clone())).unwrap_err().to_string();
        assert!(other.contains("is no socket"), "{other}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
