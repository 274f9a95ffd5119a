//! What this machine is and what it allows, as far as a run depends on it.

use std::path::{Path, PathBuf};

/// Bytes of memory that this process may use: the smallest of the machine's, the cgroup's and SLURM's.
pub fn memory() -> u64 {
    let mut least = total().unwrap_or(4 << 30);
    for limit in cgroup_limits().into_iter().chain(slurm()) {
        least = least.min(limit);
    }
    least
}

fn total() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// The limits of this process's cgroup and of all above it (v2, then v1).
fn cgroup_limits() -> Vec<u64> {
    let mut limits = Vec::new();
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut at = PathBuf::from(root).join(path.trim_start_matches('/'));
        while at.starts_with(root) {
            limits.extend(std::fs::read_to_string(at.join(file)).ok().and_then(|t| t.trim().parse::<u64>().ok()));
            if !at.pop() {
                break;
            }
        }
    }
    limits
}

fn slurm() -> Option<u64> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    // 0 stands for all that the node has.
    let per_cpu = || Some(number("SLURM_MEM_PER_CPU")? * number("SLURM_CPUS_ON_NODE")?);
    number("SLURM_MEM_PER_NODE").or_else(per_cpu).filter(|mib| *mib > 0).map(|mib| mib << 20)
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The features of this processor on which floating-point results may depend: libraries choose their kernels by them.
pub fn features() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of =
        |name: &str| text.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned());
    let flags = of("flags").or_else(|| of("Features")).unwrap_or_default();
    let wanted = ["avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve", "sve2"];
    let found: Vec<&str> = wanted.into_iter().filter(|w| flags.split_whitespace().any(|f| f == *w)).collect();
    format!("{} {}", std::env::consts::ARCH, found.join(" "))
}

/// Bytes that are free where this path is.
pub fn free_space(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail * found.f_frsize)
}
