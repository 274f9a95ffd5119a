"""Makes a network of the size of those that regress energies (5.07 million weights) with random weights: `make_model.py FILE`.

Convolution and pooling on either calorimeter, 1,000 hidden neurons, one output. Inputs ECAL (N, 25, 25, 25) and HCAL
(N, 5, 5, 60), output energy (N, 1).
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)


def weights(name, shape, fan_in):
    return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32), name)


def zeros(name, n):
    return numpy_helper.from_array(np.zeros(n, np.float32), name)


def shape(name, *dims):
    return numpy_helper.from_array(np.array(dims), name)


constants = [
    weights("ecal_w", (3, 1, 4, 4, 4), 64), zeros("ecal_b", 3), shape("ecal_shape", -1, 1, 25, 25, 25),
    weights("hcal_w", (10, 1, 2, 2, 6), 24), zeros("hcal_b", 10), shape("hcal_shape", -1, 1, 5, 5, 60),
    weights("hidden_w", (5073, 1000), 5073), zeros("hidden_b", 1000), weights("out_w", (1000, 1), 1000), zeros("out_b", 1),
]
pool = {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}
nodes = [
    node
    for side in ("ecal", "hcal")
    for node in (
        helper.make_node("Reshape", [side.upper(), f"{side}_shape"], [f"{side}_0"]),
        helper.make_node("Conv", [f"{side}_0", f"{side}_w", f"{side}_b"], [f"{side}_1"]),
        helper.make_node("Relu", [f"{side}_1"], [f"{side}_2"]),
        helper.make_node("MaxPool", [f"{side}_2"], [f"{side}_3"], **pool),
        helper.make_node("Flatten", [f"{side}_3"], [f"{side}_4"]),
    )
] + [
    helper.make_node("Concat", ["ecal_4", "hcal_4"], ["both"], axis=1),
    helper.make_node("Gemm", ["both", "hidden_w", "hidden_b"], ["hidden"]),
    helper.make_node("Relu", ["hidden"], ["active"]),
    helper.make_node("Gemm", ["active", "out_w", "out_b"], ["energy"]),
]
inputs = [
    helper.make_tensor_value_info("ECAL", TensorProto.FLOAT, ["N", 25, 25, 25]),
    helper.make_tensor_value_info("HCAL", TensorProto.FLOAT, ["N", 5, 5, 60]),
]
outputs = [helper.make_tensor_value_info("energy", TensorProto.FLOAT, ["N", 1])]
graph = helper.make_graph(nodes, "energy", inputs, outputs, constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 8
onnx.checker.check_model(model)
onnx.save(model, sys.argv[1])
