"""Dense networks with random weights over both images, of several widths and depths: `sweep.py FOLDER WIDTH..`.

Of each width four networks, 1 to 4 layers deep. The files are called w<width>_d<depth>.onnx; each gives one score in (0, 1). As the scan of CaloDNN, whose networks were 32 to 512 wide.
"""
import sys
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as n

def network(path, rng, width, depth):
    nodes = [h.make_node("Flatten", ["ECAL"], ["e"]), h.make_node("Flatten", ["HCAL"], ["f"]), h.make_node("Concat", ["e", "f"], ["x0"], axis=1)]
    weights, size = [], 25 * 25 * 25 + 5 * 5 * 60
    for layer in range(depth):
        weights.append(n.from_array((rng.standard_normal((size, width)) / size**0.5).astype("f4"), f"w{layer}"))
        nodes += [h.make_node("Gemm", [f"x{layer}", f"w{layer}"], [f"g{layer}"]), h.make_node("Relu", [f"g{layer}"], [f"x{layer + 1}"])]
        size = width
    weights.append(n.from_array((rng.standard_normal((size, 1)) / size**0.5).astype("f4"), "last"))
    nodes += [h.make_node("Gemm", [f"x{depth}", "last"], ["logit"]), h.make_node("Sigmoid", ["logit"], ["score"])]
    images = [h.make_tensor_value_info("ECAL", T.FLOAT, ["N", 25, 25, 25]), h.make_tensor_value_info("HCAL", T.FLOAT, ["N", 5, 5, 60])]
    graph = h.make_graph(nodes, "dense", images, [h.make_tensor_value_info("score", T.FLOAT, ["N", 1])], weights)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8, producer_name="sweep.py")
    onnx.checker.check_model(model)
    onnx.save(model, path)

def main(folder, widths):
    rng = np.random.default_rng(7)
    for width in widths:
        for depth in (1, 2, 3, 4):
            network(f"{folder}/w{width}_d{depth}.onnx", rng, width, depth)

main(sys.argv[1], [int(width) for width in sys.argv[2:]])
