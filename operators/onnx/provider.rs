//! Where a model computes: the CPU, or a GPU by one of ONNX Runtime's providers. Never somewhere else than was asked.
//!
//! Invariants: a provider that can't be had is an error, and so is a node that would go to the CPU instead, unless that was
//! permitted; searches by timing and TF32 are off, so that a device gives the same bits again and again.

use super::library::{self, Library};
use super::memory::Pinned;
use crate::work::Runtime;
use ort::ep::{CUDA, TensorRT, cuda};
use ort::memory::AllocationDevice;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a model computes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Processor {
    /// On the worker's own core.
    Cpu,
    /// On an NVIDIA GPU.
    Gpu {
        /// Its number.
        device: i32,
        /// By TensorRT (with CUDA for what TensorRT does not take), not by CUDA alone.
        tensorrt: bool,
        /// Nodes that the GPU has no code for may compute on the CPU.
        cpu_nodes: bool,
    },
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu { device, tensorrt, .. } => write!(f, "{}:{device}", if *tensorrt { "tensorrt" } else { "cuda" }),
        }
    }
}

/// The libraries of a provider that lie beside ONNX Runtime's own.
const CUDA_LIBRARIES: [&str; 2] = ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"];
const TENSORRT_LIBRARIES: [&str; 3] =
    ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so", "libonnxruntime_providers_tensorrt.so"];
/// The driver's.
const DRIVER: &str = "libcuda.so.1";

/// Whether the device of this name can be had here.
///
/// # Errors
/// A sentence: what is missing, and where it was looked for.
pub fn check(word: &str, runtime: &Runtime) -> Result<(), String> {
    Processor::named(word, false).map_or(Ok(()), |on| on.check(runtime))
}

impl Processor {
    /// `cpu`, `cuda`, `cuda:1`, `tensorrt`, `tensorrt:1`.
    #[must_use]
    pub fn named(word: &str, cpu_nodes: bool) -> Option<Self> {
        let (kind, device) = match word.split_once(':') {
            Some((kind, number)) => (kind, number.parse().ok().filter(|n| *n >= 0)?),
            None => (word, 0),
        };
        match kind {
            "cpu" if !word.contains(':') => Some(Self::Cpu),
            "cuda" => Some(Self::Gpu { device, tensorrt: false, cpu_nodes }),
            "tensorrt" => Some(Self::Gpu { device, tensorrt: true, cpu_nodes }),
            _ => None,
        }
    }

    pub(super) fn prepare(&self, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        let Self::Gpu { device, tensorrt, cpu_nodes } = self else { return Ok(builder) };
        let cuda = CUDA::default()
            .with_device_id(*device)
            .with_conv_algorithm_search(cuda::ConvAlgorithmSearch::Heuristic)
            .with_tf32(false)
            .build()
            .error_on_failure();
        let providers = if *tensorrt {
            vec![TensorRT::default().with_device_id(*device).build().error_on_failure(), cuda]
        } else {
            vec![cuda]
        };
        let builder = builder.with_execution_providers(providers)?;
        Ok(if *cpu_nodes { builder } else { builder.with_disable_cpu_fallback()? })
    }

    /// The memory that it reads by itself, of a session that computes on it; the CPU needs none.
    pub(super) fn pinned(&self, session: &Session) -> Option<Pinned> {
        let Self::Gpu { device, .. } = self else { return None };
        let pinned = Pinned::of(session, AllocationDevice::CUDA_PINNED, *device);
        pinned.inspect_err(|e| tracing::warn!("{self} gives no pinned memory, copies to it are slower: {e}")).ok()
    }

    /// Whether the libraries that it needs are there.
    ///
    /// # Errors
    /// A sentence: which library was looked for, and where.
    pub fn check(&self, runtime: &Runtime) -> Result<(), String> {
        let Self::Gpu { tensorrt, .. } = self else { return Ok(()) };
        let library = library::load(runtime)?;
        self.check_beside(&library.path, *tensorrt, &loader_folders())?;
        match library.providers() {
            providers if providers.iter().any(|p| p.starts_with("CUDA") || p.starts_with("Tensorrt")) => Ok(()),
            // A build with the provider lists it only where a device is; what is wrong is said when a session is opened.
            _ => Self::check_gpu(library),
        }
    }

    fn check_gpu(_: &Library) -> Result<(), String> {
        let there = Path::new("/dev").read_dir().into_iter().flatten().flatten();
        let is_gpu = |name: &str| name.strip_prefix("nvidia").is_some_and(|rest| rest.parse::<u32>().is_ok());
        if there.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_gpu)) {
            return Ok(());
        }
        Err("no NVIDIA GPU is here: there is no /dev/nvidia0".into())
    }

    fn check_beside(&self, library: &Path, tensorrt: bool, loader: &[PathBuf]) -> Result<(), String> {
        let folder = library.parent().unwrap_or(Path::new("/"));
        let names: &[&str] = if tensorrt { &TENSORRT_LIBRARIES } else { &CUDA_LIBRARIES };
        if let Some(missing) = names.iter().find(|name| !folder.join(name).is_file()) {
            return Err(format!(
                "ONNX Runtime has no {missing} for `{self}`: looked for in {}, beside the library that is used",
                folder.display()
            ));
        }
        if !loader.iter().any(|folder| folder.join(DRIVER).exists()) {
            let looked: Vec<String> = loader.iter().map(|f| f.display().to_string()).collect();
            return Err(format!("NVIDIA's driver library {DRIVER} is not there: looked for in {}", looked.join(", ")));
        }
        Ok(())
    }
}

/// The NVIDIA GPUs of this machine, as their driver calls them.
#[must_use]
pub fn gpus() -> Vec<String> {
    let folders = Path::new("/proc/driver/nvidia/gpus").read_dir().into_iter().flatten().flatten();
    let text = folders.filter_map(|folder| std::fs::read_to_string(folder.path().join("information")).ok());
    let mut names: Vec<String> =
        text.filter_map(|t| t.lines().find_map(|l| Some(l.strip_prefix("Model:")?.trim().to_owned()))).collect();
    names.sort();
    names
}

/// Where the system's loader looks, as far as that can be told without asking it.
fn loader_folders() -> Vec<PathBuf> {
    let named = env::var_os("LD_LIBRARY_PATH").map(|p| env::split_paths(&p).collect::<Vec<_>>()).unwrap_or_default();
    let usual = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/usr/lib/wsl/lib",
        "/usr/local/nvidia/lib64",
    ];
    named.into_iter().filter(|p| !p.as_os_str().is_empty()).chain(usual.map(PathBuf::from)).filter(|p| p.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_processors() {
        let gpu = |device, tensorrt| Some(Processor::Gpu { device, tensorrt, cpu_nodes: false });
        for (word, wanted) in [
            ("cpu", Some(Processor::Cpu)),
            ("cuda", gpu(0, false)),
            ("cuda:3", gpu(3, false)),
            ("tensorrt", gpu(0, true)),
            ("tensorrt:1", gpu(1, true)),
            ("cpu:0", None),
            ("cuda:-1", None),
            ("cuda:", None),
            ("rocm", None),
        ] {
            assert_eq!(Processor::named(word, false), wanted, "{word}");
        }
        assert_eq!(gpu(3, false).unwrap().to_string(), "cuda:3");
    }

    #[test]
    fn what_is_missing_is_said_with_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let (ort, driver) = (folder.path().join("ort"), folder.path().join("driver"));
        let library = ort.join("libonnxruntime.so.1");
        std::fs::create_dir_all(&ort).unwrap();
        std::fs::create_dir_all(&driver).unwrap();
        let tensorrt = Processor::named("tensorrt", false).unwrap();
        let check = |tensorrt_too| tensorrt.check_beside(&library, tensorrt_too, std::slice::from_ref(&driver));
        let touch = |folder: &Path, name: &str| std::fs::write(folder.join(name), b"").unwrap();
        let missing = |name: &str| {
            Err(format!(
                "ONNX Runtime has no {name} for `tensorrt:0`: looked for in {}, beside the library that is used",
                ort.display()
            ))
        };
        assert_eq!(check(false), missing(CUDA_LIBRARIES[0]));
        touch(&ort, CUDA_LIBRARIES[0]);
        assert_eq!(check(false), missing(CUDA_LIBRARIES[1]));
        touch(&ort, CUDA_LIBRARIES[1]);
        assert_eq!(check(true), missing(TENSORRT_LIBRARIES[2]));
        assert_eq!(
            check(false),
            Err(format!("NVIDIA's driver library libcuda.so.1 is not there: looked for in {}", driver.display()))
        );
        touch(&driver, DRIVER);
        assert_eq!(check(false), Ok(()));
    }
}
