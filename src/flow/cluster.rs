//! Which processes there are, and the sockets between them.
//!
//! timely's TCP has no authentication: whoever reaches the port is in. So calostream opens the sockets itself, and before
//! timely sees one both ends prove that they know the secret (a file of mode 0600), without sending it: each answers the
//! other's random challenge with a keyed hash (HMAC-SHA256, RFC 2104) over it, the version, the plan's hash and both process numbers.
//! A stranger is refused and the port goes on listening.

use crate::ledger::lock::host;
use anyhow::{Context, Result, bail, ensure};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::any::Any;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::{Config, Hooks};

/// How long the processes wait for each other: queues start jobs' tasks at different moments.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long one greeting may take.
const GREETING: Duration = Duration::from_secs(10);
/// How long the host of another process may not answer the kernel's questions.
const SILENCE: Duration = Duration::from_secs(90);

/// The processes of a run, connected.
#[derive(Debug)]
pub struct Cluster {
    /// The number of this process.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
    /// The host of each.
    pub names: Vec<String>,
    sockets: Vec<Option<TcpStream>>,
}

impl Cluster {
    /// One process.
    pub fn alone() -> Self {
        Self { process: 0, processes: 1, names: vec![host()], sockets: Vec::new() }
    }

    /// Connects process number `process` with the others; `hosts` are all addresses (`host:port`), in order.
    pub fn connect((process, workers): (usize, usize), hosts: &[String], secret: &[u8], plan: &str) -> Result<Self> {
        let own_words = [process as u64, workers as u64];
        let own = hosts.get(process).with_context(|| format!("process {process} is not among the {} hosts", hosts.len()))?;
        let listener = listen(own, hosts)?;
        let mut sockets: Vec<Option<TcpStream>> = (0..hosts.len()).map(|_| None).collect();
        let mut names = vec![host(); hosts.len()];
        let start = Instant::now();
        // Each connects to those before it and listens for those behind it: one socket for each two.
        for (other, address) in hosts.iter().enumerate().take(process) {
            let (stream, name) = call(address, start, |s| greet(s, secret, plan, own_words, Some(other), true))?;
            (sockets[other], names[other]) = (Some(stream), name);
        }
        listener.set_nonblocking(true)?;
        while sockets.iter().skip(process + 1).any(Option::is_none) {
            match listener.accept() {
                Ok((mut stream, from)) => {
                    stream.set_nonblocking(false)?;
                    match greet(&mut stream, secret, plan, own_words, None, false) {
                        Ok((other, name)) if other > process && other < hosts.len() && sockets[other].is_none() => {
                            (sockets[other], names[other]) = (Some(stream), name);
                        }
                        Ok((other, _)) => tracing::warn!("refused {from}: it says that it is process {other}"),
                        Err(reason) => tracing::warn!("refused {from}: {reason:#}"),
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    ensure!(start.elapsed() < PATIENCE, "not all of the {} processes have come within {PATIENCE:?}", hosts.len());
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) => return Err(e).context("cannot accept connections"),
            }
        }
        for stream in sockets.iter().flatten() {
            stream.set_read_timeout(None)?;
            stream.set_write_timeout(None)?;
            stream.set_nodelay(true)?;
            end_with_the_other(stream)?;
        }
        Ok(Self { process, processes: hosts.len(), names, sockets })
    }

    /// Process 0 says a word (when the run folder is ready, and what is in it); the others wait for it.
    pub fn ready(&mut self, word: &[u8]) -> Result<Vec<u8>> {
        if self.process == 0 {
            for stream in self.sockets.iter_mut().flatten() {
                tell(stream, word)?;
            }
            return Ok(word.to_vec());
        }
        let stream = self.sockets.iter_mut().flatten().next().context("a cluster of one")?;
        hear(stream).context("process 0 has ended before the run began; its own message says why")
    }

    /// Process 0 hears something of every other; the others say it.
    pub fn gather(&mut self, word: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut heard = Vec::new();
        if self.process == 0 {
            for (other, stream) in self.sockets.iter_mut().enumerate() {
                let Some(stream) = stream else { continue };
                heard.push(hear(stream).with_context(|| format!("process {other} has ended before the run began"))?);
            }
        } else if let Some(stream) = self.sockets.iter_mut().flatten().next() {
            tell(stream, word)?;
        }
        Ok(heard)
    }

    /// What cuts the connections of this process, so that the others stop with it. Timely itself says goodbye in an orderly
    /// way when its workers end, and who is left behind waits for ever.
    pub fn cut(&self) -> Result<impl Fn() + Send + Sync + 'static> {
        let streams = self.sockets.iter().flatten().map(TcpStream::try_clone).collect::<std::io::Result<Vec<_>>>()?;
        Ok(move || {
            for stream in &streams {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        })
    }

    /// The place of this process among those of its host, and their number.
    pub fn on_this_host(&self) -> (usize, usize) {
        let here = |name: &&String| **name == self.names[self.process];
        (self.names[..self.process].iter().filter(here).count(), self.names.iter().filter(here).count())
    }

    /// The allocators of this process's workers.
    pub fn allocators(self, threads: usize) -> Result<(Vec<AllocatorBuilder>, Box<dyn Any + Send>)> {
        if self.processes == 1 {
            let config = match std::env::var("CALOSTREAM_SERIALIZED") {
                Ok(_) => Config::ProcessBinary(threads),
                Err(_) => Config::Process(threads),
            };
            return config.try_build().map_err(|e| anyhow::anyhow!("cannot start the workers: {e}"));
        }
        let hooks = Hooks::default();
        let local = ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guard) = initialize_networking_from_sockets(local, self.sockets, self.process, threads, hooks)?;
        Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
    }
}

/// The secret in a file that nobody else may read.
pub fn secret(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).with_context(|| format!("cannot read the secret {}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "others may read the secret {} (mode {mode:03o}); run `chmod 600 {0}`", path.display());
    let secret = std::fs::read(path).with_context(|| format!("cannot read the secret {}", path.display()))?;
    ensure!(secret.len() >= 16, "the secret {} is shorter than 16 bytes", path.display());
    Ok(secret)
}

/// Sends a word with its length.
fn tell(stream: &mut TcpStream, word: &[u8]) -> Result<()> {
    stream.write_all(&(word.len() as u64).to_le_bytes())?;
    Ok(stream.write_all(word)?)
}

/// Receives a word of [`tell`].
fn hear(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut word = Vec::new();
    stream.take(length).read_to_end(&mut word)?;
    ensure!(word.len() as u64 == length, "the connection broke");
    Ok(word)
}

/// Listens on its address. Where a host's own name means the loopback to itself (`127.0.1.1 name` in /etc/hosts, as Debian
/// writes it) and there are other hosts, these could not come: then on the port of all interfaces.
fn listen(own: &str, hosts: &[String]) -> Result<TcpListener> {
    let cannot = || format!("cannot listen on {own}");
    let found: Vec<SocketAddr> = own.to_socket_addrs().with_context(cannot)?.collect();
    let name = |address: &str| address.rsplit_once(':').map_or(address, |(name, _)| name).to_owned();
    let others = hosts.iter().any(|h| name(h) != name(own));
    if others && found.iter().all(|a| a.ip().is_loopback()) {
        let port = found.first().with_context(cannot)?.port();
        return TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).with_context(cannot);
    }
    TcpListener::bind(&found[..]).with_context(cannot)
}

/// A node that loses its power says no goodbye: the connection breaks when it has been silent for a while.
fn end_with_the_other(stream: &TcpStream) -> Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE / 3)?;
    sockopt::set_tcp_keepintvl(stream, SILENCE / 6)?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    Ok(sockopt::set_tcp_user_timeout(stream, u32::try_from(SILENCE.as_millis())?)?)
}

fn call<N>(address: &str, start: Instant, greet: impl Fn(&mut TcpStream) -> Result<(usize, N)>) -> Result<(TcpStream, N)> {
    loop {
        let last = match address.to_socket_addrs().map_err(anyhow::Error::from).and_then(|mut a| a.next().context("no address")) {
            Err(error) => error,
            Ok(found) => match TcpStream::connect_timeout(&found, GREETING) {
                Err(error) => error.into(),
                Ok(mut stream) => {
                    let greeted = greet(&mut stream).with_context(|| format!("the process at {address} does not fit this one"));
                    return Ok((stream, greeted?.1));
                }
            },
        };
        if start.elapsed() > PATIENCE {
            return Err(last.context(format!("cannot reach the process at {address}")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Both ends prove that they know the secret; gives the number of the other process and its host.
fn greet(
    stream: &mut TcpStream,
    secret: &[u8],
    plan: &str,
    words: [u64; 2],
    expected: Option<usize>,
    caller: bool,
) -> Result<(usize, String)> {
    stream.set_read_timeout(Some(GREETING))?;
    stream.set_write_timeout(Some(GREETING))?;
    let mut own = [0u8; 48];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut own[..32])?;
    own[32..40].copy_from_slice(&words[0].to_le_bytes());
    own[40..].copy_from_slice(&words[1].to_le_bytes());
    stream.write_all(&own)?;
    let mut other = [0u8; 48];
    stream.read_exact(&mut other).context("it did not greet")?;
    let proof = |challenge: &[u8; 48], answer: &[u8; 48], from_caller: bool| -> Result<Hmac<Sha256>> {
        let version = env!("CARGO_PKG_VERSION").as_bytes();
        let mut hash = <Hmac<Sha256> as KeyInit>::new_from_slice(secret)?;
        let words: [&[u8]; 6] = [challenge, answer, &[u8::from(from_caller)], version, b"\0", plan.as_bytes()];
        words.into_iter().for_each(|word| hash.update(word));
        Ok(hash)
    };
    // The listener proves itself last: a stranger who calls learns nothing that it could replay.
    let (mine, theirs) = (proof(&other, &own, caller)?.finalize().into_bytes(), proof(&own, &other, !caller)?);
    let mut answer = [0u8; 32];
    if caller {
        stream.write_all(&mine)?;
        stream.read_exact(&mut answer).context("it refused: another secret, plan or version")?;
    } else {
        stream.read_exact(&mut answer).context("it did not answer")?;
    }
    if theirs.verify_slice(&answer).is_err() {
        bail!("it has another secret, plan or version");
    }
    if !caller {
        stream.write_all(&mine)?;
    }
    let word = |at: usize| u64::from_le_bytes(other[at..at + 8].try_into().expect("eight bytes"));
    let number = usize::try_from(word(32))?;
    ensure!(expected.is_none_or(|e| e == number), "it says that it is process {number}");
    // timely counts workers by process: each must have as many as this one.
    ensure!(
        word(40) == words[1],
        "process {number} has {} workers, this one {}; give all the same `--workers`",
        word(40),
        words[1]
    );
    tell(stream, host().as_bytes())?;
    Ok((number, String::from_utf8(hear(stream)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_port() -> String {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
    }

    #[test]
    fn a_host_that_calls_itself_by_the_loopback_is_reached_by_others() {
        let alone = |own: &str, all: &[&str]| {
            let all: Vec<String> = all.iter().map(|a| (*a).to_owned()).collect();
            listen(own, &all).unwrap().local_addr().unwrap().ip()
        };
        assert!(alone("127.0.1.1:0", &["127.0.1.1:0", "node2:1"]).is_unspecified());
        assert!(alone("127.0.0.1:0", &["127.0.0.1:0", "127.0.0.1:1"]).is_loopback());
    }

    #[test]
    fn strangers_are_refused_and_the_others_find_each_other() {
        let hosts = [free_port(), free_port()];
        let first = std::thread::spawn({
            let hosts = hosts.clone();
            move || Cluster::connect((0, 2), &hosts, b"0123456789abcdef", "plan")
        });
        let mut stranger = loop {
            if let Ok(s) = TcpStream::connect(&hosts[0]) {
                break s;
            }
        };
        stranger.write_all(&[7; 80]).unwrap();
        let wrong = Cluster::connect((1, 2), &hosts, b"another secret!!", "plan").unwrap_err();
        assert!(format!("{wrong:#}").contains("another secret, plan or version"), "{wrong:#}");
        let wrong = Cluster::connect((1, 2), &hosts, b"0123456789abcdef", "other plan").unwrap_err();
        assert!(format!("{wrong:#}").contains("another secret, plan or version"), "{wrong:#}");
        let wrong = Cluster::connect((1, 3), &hosts, b"0123456789abcdef", "plan").unwrap_err();
        assert!(format!("{wrong:#}").contains("process 0 has 2 workers, this one 3"), "{wrong:#}");
        let mut second = Cluster::connect((1, 2), &hosts, b"0123456789abcdef", "plan").unwrap();
        let mut first = first.join().unwrap().unwrap();
        assert_eq!((first.on_this_host(), second.on_this_host()), ((0, 2), (1, 2)));
        first.ready(b"begin").unwrap();
        assert_eq!(second.ready(b"").unwrap(), b"begin");
        second.gather(b"a word").unwrap();
        assert_eq!(first.gather(b"").unwrap(), [b"a word"]);
        assert_eq!((first.sockets.len(), second.sockets.len()), (2, 2));
        // What the stranger got is a challenge and nothing else.
        let mut got = Vec::new();
        let _ = stranger.read_to_end(&mut got);
        assert_eq!(got.len(), 48);
    }
}
