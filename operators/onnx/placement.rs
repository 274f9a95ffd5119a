//! Which nodes of a model would compute on the CPU although a GPU was asked for, by name.
//!
//! Only ONNX Runtime knows: it depends on the kernels of its build, on types, shapes and on what it fuses, so no table of ours
//! could be right. It decides when it makes a session, and its log at the most talkative level says which node went where. So the
//! model is opened once on the device, with nodes on the CPU permitted, and those lines are read. They serve for the names
//! alone: that nothing computes on the CPU unnoticed is ONNX Runtime's own refusal when the run opens its sessions, which
//! needs no words of a log ([`Processor`]).

use super::provider::Processor;
use super::{library, model, session};
use crate::work::Runtime;

/// The provider of the CPU, as the log calls it.
const CPU: &str = "CPUExecutionProvider";

/// The nodes of the model at `path` that would compute on the CPU where the device of this name (`cuda:1`) is asked for:
/// `Reshape (head/flat)`, operator and name, sorted.
///
/// # Errors
/// A sentence: the model can't be read, or the device not be used for it.
pub fn on_cpu(path: &str, device: &str, runtime: &Runtime) -> Result<Vec<String>, String> {
    let Some(on @ Processor::Gpu { .. }) = Processor::named(device, true) else { return Ok(Vec::new()) };
    let bytes = model::read(path)?.bytes;
    let lines = session::told_while_opened(&bytes, library::load(runtime)?, &on);
    let lines =
        lines.map_err(|error| format!("`{path}` can't be opened on {on}; ONNX Runtime says: {}", error.message().trim()))?;
    Ok(placed(&lines, CPU).unwrap_or_default())
}

/// The nodes that a log says were placed on a provider; none where it says nothing of any placement. Where all nodes went to one
/// provider the log has no names, but says how many there are.
fn placed(lines: &[String], provider: &str) -> Option<Vec<String>> {
    let (mut said, mut here, mut nodes) = (false, false, Vec::new());
    for line in lines {
        let of = |words: &str| line.split_once(words)?.1.split_once(']');
        if let Some((name, _)) = of("Node(s) placed on [") {
            (said, here) = (true, name == provider);
        } else if let Some((name, rest)) = of("All nodes placed on [") {
            (said, here) = (true, false);
            if name == provider {
                let count = rest.rsplit(' ').next().unwrap_or("all").trim();
                nodes.push(format!("all ({count} of {count})"));
            }
        } else if line.starts_with("  ") && line.ends_with(')') {
            if here {
                nodes.push(line.trim().to_owned());
            }
        } else {
            here = false;
        }
    }
    nodes.sort();
    nodes.dedup();
    said.then_some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// As ONNX Runtime 1.31 writes them, for a model with a node that CUDA has no kernel for and nodes on shapes that it leaves to the
    /// CPU; with a graph within a graph, and other lines between.
    const MIXED: &str = "Initializing session.
Adding default CPU execution provider.
Node placements
 Node(s) placed on [CUDAExecutionProvider]. Number of nodes: 3
  Conv (ecal/conv)
  FusedGemm (hidden)
  MatMul (out)
 Node(s) placed on [CPUExecutionProvider]. Number of nodes: 2
  Det (head/det)
  Reshape (flat (of both))
Node placements
 All nodes placed on [CUDAExecutionProvider]. Number of nodes: 4
SaveMLValueNameIndexMapping
  12 bytes in all (much)
Node placements
 Node(s) placed on [CPUExecutionProvider]. Number of nodes: 1
  Scan ()
Done saving initialized tensors";

    #[test]
    fn nodes_on_the_cpu_have_their_names() {
        let lines: Vec<String> = MIXED.lines().map(str::to_owned).collect();
        assert_eq!(placed(&lines, CPU).unwrap(), ["Det (head/det)", "Reshape (flat (of both))", "Scan ()"]);
        assert_eq!(placed(&lines, "CUDAExecutionProvider").unwrap().len(), 4);
        assert_eq!(placed(&lines[..2], CPU), None);
        let all = [" All nodes placed on [CPUExecutionProvider]. Number of nodes: 21".to_owned()];
        assert_eq!(placed(&all, CPU).unwrap(), ["all (21 of 21)"]);
    }

    /// The library that is here says where nodes went in these words, so that a new one that has others is noticed.
    #[test]
    fn the_library_says_where_nodes_went() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/energy.onnx");
        let bytes = model::read(model.to_str().unwrap()).unwrap().bytes;
        let library = library::load(&Runtime::default()).unwrap();
        let lines = session::told_while_opened(&bytes, library, &Processor::Cpu).unwrap();
        let nodes = placed(&lines, CPU).expect("lines of placements");
        assert!(nodes.len() == 1 && nodes[0].starts_with("all ("), "{nodes:?}");
        assert_eq!(on_cpu("models/none.onnx", "cpu", &Runtime::default()), Ok(Vec::new()));
    }
}
