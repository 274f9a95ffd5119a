"""A tiny network: the sums of both images, an energy and four probabilities from them."""
import sys
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as n

def tensor(name, values, kind=np.float32):
    return n.from_array(np.asarray(values, kind), name)

def main(path, inputs=("ECAL", "HCAL")):
    ecal, hcal = inputs
    nodes = [
        h.make_node("ReduceSum", [ecal, "cells"], ["e"], keepdims=0),
        h.make_node("ReduceSum", [hcal, "cells"], ["x"], keepdims=0),
        h.make_node("Unsqueeze", ["e", "last"], ["e1"]),
        h.make_node("Unsqueeze", ["x", "last"], ["x1"]),
        h.make_node("Concat", ["e1", "x1"], ["sums"], axis=1),
        h.make_node("Gemm", ["sums", "w", "b"], ["energy"]),
        h.make_node("Gemm", ["sums", "v", "c"], ["scores"]),
        h.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    weights = [
        tensor("cells", [1, 2, 3], np.int64), tensor("last", [1], np.int64),
        tensor("w", [[50.0], [110.0]]), tensor("b", [0.5]),
        tensor("v", [[1.0, 0.9, 0.8, -1.0], [-3.0, -2.0, -1.0, 2.0]]), tensor("c", [0.0, 0.1, 0.2, 0.3]),
    ]
    rows = "rows"
    graph = h.make_graph(nodes, "tiny",
        [h.make_tensor_value_info(ecal, T.FLOAT, [rows, 25, 25, 25]), h.make_tensor_value_info(hcal, T.FLOAT, [rows, 5, 5, 60])],
        [h.make_tensor_value_info("energy", T.FLOAT, [rows, 1]), h.make_tensor_value_info("probabilities", T.FLOAT, [rows, 4])], weights)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)

main(*sys.argv[1:2], tuple(sys.argv[2:4]) or ("ECAL", "HCAL"))
