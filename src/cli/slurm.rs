//! Started by SLURM: `srun calostream run ...` finds its processes by itself.
//!
//! Number and count come from the step's variables, the hosts from its list of nodes (tasks in blocks, SLURM's default), the
//! port from the job's number, and the secret is a file in the run folder that process 0 makes, for one step of one job.

use anyhow::{Context, Result, bail, ensure};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the others wait for the secret of process 0.
const PATIENCE: Duration = Duration::from_secs(300);

/// The processes of a SLURM step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The number of this process.
    pub process: usize,
    /// `host:port` of each.
    pub hosts: Vec<String>,
    /// Job and step.
    pub job: String,
}

/// The step that started this process; none outside of SLURM, and where it started one process.
pub fn step() -> Result<Option<Step>> {
    of(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn of(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Step>> {
    // SLURM_NTASKS is there in a batch script as well, which is one process; SLURM_STEP_* are only in a step.
    let (Some(process), Some(count), Some(job)) = (
        variable("SLURM_PROCID"),
        variable("SLURM_STEP_NUM_TASKS").or_else(|| variable("SLURM_NTASKS")),
        variable("SLURM_JOB_ID"),
    ) else {
        return Ok(None);
    };
    let step = variable("SLURM_STEP_ID").unwrap_or_else(|| "0".into());
    let number = |what: &str, text: &str| text.parse::<usize>().with_context(|| format!("{what} is `{text}`"));
    let (process, count) = (number("SLURM_PROCID", &process)?, number("SLURM_NTASKS", &count)?);
    // 4294967291 is SLURM's name for the batch script itself.
    if count < 2 || step == "4294967291" || step == "batch" || variable("SLURM_STEP_NODELIST").is_none() {
        return Ok(None);
    }
    let list =
        variable("SLURM_STEP_NODELIST").or_else(|| variable("SLURM_JOB_NODELIST")).context("SLURM gives no list of nodes")?;
    let nodes = expand(&list)?;
    let tasks = match variable("SLURM_STEP_TASKS_PER_NODE").or_else(|| variable("SLURM_TASKS_PER_NODE")) {
        Some(text) => tasks_per_node(&text)?,
        None => vec![count.div_ceil(nodes.len()); nodes.len()],
    };
    // Away from the ports that systems give out by themselves (from 32768 on); steps of a job differ by theirs.
    let offset = number("SLURM_JOB_ID", &job)? * 64 + step.parse::<usize>().unwrap_or(0) * 8;
    let port = |task: usize| 10_000 + (offset + task) % 20_000;
    let places = nodes.iter().zip(tasks).flat_map(|(node, tasks)| std::iter::repeat_n(node, tasks));
    let hosts: Vec<String> = places.take(count).enumerate().map(|(task, node)| format!("{node}:{}", port(task))).collect();
    ensure!(
        hosts.len() == count && process < count,
        "SLURM speaks of {count} tasks and has places for {}: `{list}`",
        hosts.len()
    );
    Ok(Some(Step { process, hosts, job: format!("{job}.{step}") }))
}

/// The hosts of a list such as `node[01-03,07],gpu5`.
fn expand(list: &str) -> Result<Vec<String>> {
    let wrong = || format!("`{list}` is no list of hosts");
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, letter) in list.char_indices().chain([(list.len(), ',')]) {
        match letter {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(alternatives(&list[start..at]).with_context(wrong)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    ensure!(depth == 0 && names.iter().all(|n| !n.is_empty()), wrong());
    Ok(names)
}

/// The names that one item of a list stands for; it may have several brackets.
fn alternatives(item: &str) -> Result<Vec<String>> {
    let Some((before, rest)) = item.split_once('[') else { return Ok(vec![item.to_owned()]) };
    let (ranges, after) = rest.split_once(']').context("a bracket that is not closed")?;
    let tails = alternatives(after)?;
    let mut names = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (from, to): (u64, u64) = (first.parse()?, last.parse()?);
        if from > to || to - from > 1 << 20 {
            bail!("the range {range}");
        }
        for number in from..=to {
            names.extend(tails.iter().map(|tail| format!("{before}{number:0width$}{tail}", width = first.len())));
        }
    }
    Ok(names)
}

/// The tasks of each node of a list such as `2(x3),1`.
fn tasks_per_node(text: &str) -> Result<Vec<usize>> {
    let mut tasks = Vec::new();
    for item in text.split(',') {
        let (each, times) = match item.split_once("(x") {
            Some((each, times)) => (each, times.strip_suffix(')').context("a bracket that is not closed")?.parse()?),
            None => (item, 1),
        };
        let each: usize = each.parse().with_context(|| format!("`{text}` does not say how many tasks a node has"))?;
        tasks.extend(std::iter::repeat_n(each, times));
    }
    Ok(tasks)
}

/// The secret of a step: process 0 makes it, of mode 0600 from its first moment on; the others wait for it.
pub fn secret(folder: &Path, step: &Step) -> Result<PathBuf> {
    let path = folder.join(format!("secret-{}", step.job));
    if step.process == 0 {
        crate::files::make_folder(folder)?;
        let mut random = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        // A step that was requeued has the same number; its secret is a new one.
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
            file.write_all(&random)?;
            file.sync_all()
        });
        made.with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(path);
    }
    let start = Instant::now();
    // What a killed step of the same number has left behind is older.
    let fresh = |m: &std::fs::Metadata| m.modified().is_ok_and(|at| at.elapsed().map_or(true, |age| age < 2 * PATIENCE));
    while !std::fs::metadata(&path).is_ok_and(|m| m.len() == 32 && fresh(&m)) {
        ensure!(start.elapsed() < PATIENCE, "process 0 has made no secret {} within {PATIENCE:?}", path.display());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_hosts_are_written_out() {
        let expanded = |list| expand(list).unwrap().join(" ");
        assert_eq!(expanded("node[01-03,07],gpu5"), "node01 node02 node03 node07 gpu5");
        assert_eq!(expanded("a[9-11]-b"), "a9-b a10-b a11-b");
        assert_eq!(expanded("r[1-2]n[01,3]"), "r1n01 r1n3 r2n01 r2n3");
        assert_eq!(expanded("login"), "login");
        for wrong in ["n[1-", "n[3-1]", "n[a-b]", "a,,b", "", "n]1["] {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
        assert_eq!(tasks_per_node("2(x3),1").unwrap(), [2, 2, 2, 1]);
        assert!(tasks_per_node("2(x").is_err());
    }

    #[test]
    fn a_step_knows_its_processes_and_a_batch_script_is_one() {
        let step = |more: &[(&str, &str)]| {
            let mut all = vec![("SLURM_PROCID", "2"), ("SLURM_NTASKS", "3"), ("SLURM_JOB_ID", "100"), ("SLURM_STEP_ID", "1")];
            all.extend_from_slice(more);
            let all: std::collections::BTreeMap<_, _> = all.into_iter().collect();
            of(&|name| all.get(name).map(|v| (*v).to_owned()))
        };
        let list = ("SLURM_STEP_NODELIST", "n[1-2]");
        let found = step(&[list, ("SLURM_STEP_TASKS_PER_NODE", "2,1")]).unwrap().unwrap();
        assert_eq!((found.process, found.job.as_str()), (2, "100.1"));
        assert_eq!(found.hosts, ["n1:16408", "n1:16409", "n2:16410"]);
        assert_eq!(step(&[]).unwrap(), None, "a batch script");
        assert!(step(&[list, ("SLURM_STEP_TASKS_PER_NODE", "1(x2)")]).unwrap_err().to_string().contains("places for 2"));
        assert_eq!(step(&[list, ("SLURM_NTASKS", "1")]).unwrap(), None);
    }

    #[test]
    fn the_secret_is_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let step = |process| Step { process, hosts: Vec::new(), job: "7.0".into() };
        let path = secret(folder.path(), &step(0)).unwrap();
        assert_eq!(secret(folder.path(), &step(1)).unwrap(), path);
        assert_eq!(crate::flow::secret(&path).unwrap().len(), 32);
    }
}
