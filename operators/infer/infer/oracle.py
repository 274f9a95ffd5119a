"""Random small models, random rows for them, and what ONNX Runtime in Python says of each row.

    oracle.py cases FOLDER                   writes FOLDER/<case>.onnx and, as raw float32, FOLDER/<case>.<input or output>
    oracle.py run MODEL HDF5 DATASET FOLDER  writes the dataset and what a model of one input says of it, as raw float32
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROWS = 83


def weights(rng, name, shape):
    return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name)


def save(path, nodes, inputs, outputs, initializers):
    info = lambda name, dims, element=TensorProto.FLOAT: helper.make_tensor_value_info(name, element, dims)
    graph = helper.make_graph(nodes, path.stem, [info(*i) for i in inputs], [info(*o) for o in outputs], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="oracle")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def two_images(rng, path):
    """Two convolutions side by side, an energy and four probabilities: the shape of the calorimeter networks."""
    node = helper.make_node
    save(
        path,
        [
            node("Unsqueeze", ["ECAL", "one"], ["e0"]),
            node("Conv", ["e0", "w1"], ["e1"]),
            node("Relu", ["e1"], ["e2"]),
            node("MaxPool", ["e2"], ["e3"], kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
            node("Flatten", ["e3"], ["e4"]),
            node("Flatten", ["HCAL"], ["h0"]),
            node("Concat", ["e4", "h0"], ["c"], axis=1),
            node("Gemm", ["c", "d1"], ["f"]),
            node("Relu", ["f"], ["g"]),
            node("Gemm", ["g", "d2"], ["energy"]),
            node("Gemm", ["g", "d3"], ["logits"]),
            node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        [("ECAL", ["N", 7, 7, 9]), ("HCAL", ["N", 3, 3, 5])],
        [("energy", ["N", 1]), ("probabilities", ["N", 4])],
        [
            numpy_helper.from_array(np.array([1]), "one"),
            weights(rng, "w1", (3, 1, 2, 2, 2)),
            weights(rng, "d1", (3 * 3 * 3 * 4 + 45, 20)),
            weights(rng, "d2", (20, 1)),
            weights(rng, "d3", (20, 4)),
        ],
    )


def channel(rng, path, dims, kernel):
    """An image with a channel axis of 1 and two numbers, one a row without and one with an axis."""
    node = helper.make_node
    squeeze = [node("Transpose", ["image"], ["i0"], perm=[0, 3, 1, 2])] if dims[-1] == 1 else [node("Identity", ["image"], ["i0"])]
    save(
        path,
        squeeze
        + [
            node("Conv", ["i0", "w1"], ["i1"]),
            node("GlobalAveragePool", ["i1"], ["i2"]),
            node("Flatten", ["i2"], ["i3"]),
            node("Unsqueeze", ["eta", "one"], ["e"]),
            node("Concat", ["i3", "e", "phi"], ["c"], axis=1),
            node("Gemm", ["c", "d1"], ["d"]),
            node("Tanh", ["d"], ["t"]),
            node("ReduceSum", ["t", "one"], ["score"], keepdims=0),
        ],
        [("image", dims), ("eta", [dims[0]]), ("phi", [dims[0], 1])],
        [("score", [dims[0]])],
        [numpy_helper.from_array(np.array([1]), "one"), weights(rng, "w1", kernel), weights(rng, "d1", (kernel[0] + 2, 6))],
    )


def scaled(path):
    """Sums an image: what comes out is what the transform put in."""
    node = helper.make_node
    save(
        path,
        [node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0)],
        [("x", ["N", 4, 4])],
        [("sum", ["N"])],
        [numpy_helper.from_array(np.array([1, 2]), "axes")],
    )


def typed(path, element):
    """Gives each value back, in the type of the model, and says whether it is below 1."""
    node = helper.make_node
    save(
        path,
        [node("Identity", ["x"], ["same"]), node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), node("Less", ["f", "one"], ["small"])],
        [("x", ["N", 3], element)],
        [("same", ["N", 3], element), ("small", ["N", 3], TensorProto.BOOL)],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1])],
    )


def forms(path, dims):
    """Gives back a row as it was fed, flat."""
    save(path, [helper.make_node("Flatten", ["x"], ["row"])], [("x", ["N", *dims])], [("row", ["N", int(np.prod(dims))])], [])


def inverse(path):
    """1 / x: infinite at 0."""
    save(path, [helper.make_node("Reciprocal", ["x"], ["y"])], [("x", ["N"])], [("y", ["N"])], [])


def dense(rng, path, width, layers):
    """A dense network over two images, as of the CaloDNN scan."""
    node = helper.make_node
    nodes = [node("Flatten", ["ECAL"], ["e"]), node("Flatten", ["HCAL"], ["h"]), node("Concat", ["e", "h"], ["x0"], axis=1)]
    initializers, size = [], 7 * 7 * 9 + 45
    for layer in range(layers):
        initializers.append(weights(rng, f"w{layer}", (size, width)))
        nodes += [node("Gemm", [f"x{layer}", f"w{layer}"], [f"g{layer}"]), node("Relu", [f"g{layer}"], [f"x{layer + 1}"])]
        size = width
    initializers.append(weights(rng, "last", (size, 1)))
    nodes += [node("Gemm", [f"x{layers}", "last"], ["logit"]), node("Sigmoid", ["logit"], ["score"])]
    save(path, nodes, [("ECAL", ["N", 7, 7, 9]), ("HCAL", ["N", 3, 3, 5])], [("score", ["N", 1])], initializers)


def first_layers(rng, folder):
    """First layers in the forms in which exporters write them, and layers that are no product with the images alone."""
    node, width = helper.make_node, 37
    ecal, both = 7 * 7 * 9, 7 * 7 * 9 + 45
    flat = lambda image, name: node("Flatten", [image], [name])
    of = lambda *values: numpy_helper.from_array(np.array(values), "shape")
    slow = lambda name, shape: helper.make_tensor(name, TensorProto.FLOAT, shape, rng.standard_normal(shape).ravel() / 20)
    concat = lambda *names: node("Concat", [*names], ["x"], axis=1)
    sides = [flat("ECAL", "e"), node("Identity", ["HCAL"], ["i"]), flat("i", "h")]
    layers = {
        "matmul": ([node("Reshape", ["ECAL", "shape"], ["e"]), flat("HCAL", "h"), concat("h", "e"), node("MatMul", ["x", "w"], ["m"]),
                    node("Add", ["m", "b"], ["y"])], [of(-1, ecal), slow("w", (both, width)), slow("b", (width,))]),
        "transposed": ([*sides, concat("e", "h"), node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
                       [weights(rng, "w", (width, both)), slow("b", (1, width))]),
        "half": ([*sides, concat("e", "h"), node("Gemm", ["x", "w"], ["y"], alpha=0.5)], [slow("w", (both, width))]),
        "twice": ([*sides, concat("e", "h"), node("Gemm", ["x", "w"], ["g"]), node("Gemm", ["h", "v"], ["k"]), node("Add", ["g", "k"], ["y"])],
                  [slow("w", (both, width)), slow("v", (45, width))]),
    }
    (folder / "layers").mkdir()
    for name, (nodes, initializers) in layers.items():
        nodes = [*nodes, node("Tanh", ["y"], ["t"]), node("Gemm", ["t", "last"], ["score"])]
        inputs = [("ECAL", ["N", 7, 7, 9]), ("HCAL", ["N", 3, 3, 5])]
        save(folder / "layers" / f"{name}.onnx", nodes, inputs, [("score", ["N", 1])], [*initializers, slow("last", (width, 1))])


def first_convolutions(rng, folder):
    """First convolutions in the forms in which exporters write them, and some that are not computed from hits alone."""
    node, width = helper.make_node, 11
    of = lambda name, *values: numpy_helper.from_array(np.array(values), name)
    number = lambda name, value: numpy_helper.from_array(np.float32(value), name)
    deep = lambda image, name: node("Reshape", [image, f"{name}_shape"], [name])
    shapes = [of("e_shape", -1, 1, 7, 7, 9), of("h_shape", 0, 1, 3, 3, -1)]
    pool = {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}
    flat = lambda name: node("Flatten", [name], [f"{name}_flat"])
    constant = node("Constant", [], ["e_shape"], value=of("value", -1, 1, 7, 7, 9))
    models = {
        # Both images, padded, with a bias and without, an activation with a slope and windows.
        "deep": ([deep("ECAL", "e"), node("Conv", ["e", "w1", "b1"], ["e1"], pads=[1, 0, 2, 1, 1, 2], kernel_shape=[3, 3, 5]),
                  node("LeakyRelu", ["e1"], ["e2"], alpha=0.3), node("MaxPool", ["e2"], ["e3"], **pool), deep("HCAL", "h"),
                  node("Conv", ["h", "w2"], ["h1"], auto_pad="SAME_UPPER"), node("Relu", ["h1"], ["h2"]), flat("e3"), flat("h2")],
                 [*shapes, weights(rng, "w1", (5, 1, 3, 3, 5)), weights(rng, "b1", (5,)), weights(rng, "w2", (4, 1, 2, 2, 3))], ["e3", "h2"]),
        # The last axis as channels, as Keras has them, and windows of another step.
        "layers": ([node("Transpose", ["ECAL"], ["e"], perm=[0, 3, 1, 2]), node("Conv", ["e", "w1", "b1"], ["e1"], auto_pad="SAME_LOWER"),
                    node("MaxPool", ["e1"], ["e2"], kernel_shape=[3, 2], strides=[2, 1]), node("Relu", ["e2"], ["e3"]), flat("e3"), flat("HCAL")],
                   [weights(rng, "w1", (6, 9, 4, 2)), weights(rng, "b1", (6,))], ["e3", "HCAL"]),
        # Two kernels side by side, an image that is scaled, read again elsewhere, and a shape that a node says.
        "beside": ([constant, node("Mul", ["tenth", "ECAL"], ["s"]), deep("s", "e"), node("Conv", ["e", "w1"], ["e1"]), node("Relu", ["e1"], ["e2"]),
                    node("Conv", ["e", "w2"], ["e3"]), node("Sigmoid", ["e3"], ["e4"]), node("Mul", ["e3", "e4"], ["e5"]),
                    node("ReduceSum", ["ECAL", "axes"], ["sums"], keepdims=0), node("Unsqueeze", ["HCAL", "one"], ["u"]),
                    node("Squeeze", ["u", "one"], ["q"]), flat("e2"), flat("e5"), flat("sums"), flat("q")],
                   [of("axes", 1, 2), of("one", 1), number("tenth", 0.1), weights(rng, "w1", (3, 1, 1, 1, 1)), weights(rng, "w2", (2, 1, 4, 3, 9))],
                   ["e2", "e5", "sums", "q"]),
        # Of the logarithm of what is positive.
        "logarithm": ([node("Relu", ["ECAL"], ["r"]), node("Mul", ["r", "tenth"], ["m"]), node("Add", ["unit", "m"], ["a"]), node("Log", ["a"], ["l"]),
                       node("Transpose", ["l"], ["e"], perm=[0, 3, 2, 1]), node("Conv", ["e", "w1", "b1"], ["e1"]), flat("e1"),
                       node("Sub", ["HCAL", "unit"], ["s"]), deep("s", "h"), node("Conv", ["h", "w2"], ["h1"]), flat("h1")],
                      [shapes[1], number("tenth", 0.1), number("unit", 1), weights(rng, "w1", (9, 9, 3, 2)), weights(rng, "b1", (9,)),
                       weights(rng, "w2", (2, 1, 2, 2, 2))], ["e1", "h1"]),
        # In steps of two, with windows that are padded, of the sum of two images: by ONNX Runtime, but for one.
        "strided": ([deep("ECAL", "e"), node("Conv", ["e", "w1"], ["e1"], strides=[2, 2, 1]), deep("HCAL", "h"), node("Conv", ["h", "w2"], ["h1"]),
                     node("MaxPool", ["h1"], ["h2"], kernel_shape=[2, 2, 2], pads=[1, 1, 1, 1, 1, 1]), node("Div", ["HCAL", "three"], ["d"]),
                     node("Add", ["d", "HCAL"], ["a"]), node("Reshape", ["a", "h_shape"], ["k"]), node("Conv", ["k", "w2"], ["k1"]), flat("e1"), flat("h2"), flat("k1")],
                    [*shapes, number("three", 3), weights(rng, "w1", (3, 1, 2, 2, 2)), weights(rng, "w2", (3, 1, 2, 2, 2))], ["e1", "h2", "k1"]),
        # An image that nothing reads, an axis that is named twice, weights that are said to be in the file, a slope of 0 that is left out, as
        # `proto3` has it, and outputs that nobody wants.
        "unread": ([node("Unsqueeze", ["ECAL", "two"], ["u"]), node("Squeeze", ["u", "twice"], ["e"]), node("Conv", ["e", "w1"], ["e1"]),
                    node("LeakyRelu", ["e1"], ["r"], alpha=0.0), node("Clip", ["r", "", "top"], ["e2"]), node("Dropout", ["e2"], ["e3", ""]), flat("e3")],
                   [of("two", 1, 2), of("twice", 1, 1), number("top", 0.5), weights(rng, "w1", (3, 1, 2, 2, 2))], ["e3"]),
        # An infinite weight makes NaN of cells that hold nothing.
        "infinite": ([deep("ECAL", "e"), node("Conv", ["e", "w1"], ["e1"]), node("IsNaN", ["e1"], ["n"]), node("Cast", ["n"], ["e2"], to=TensorProto.FLOAT),
                      flat("e2"), flat("HCAL")],
                     [shapes[0], numpy_helper.from_array(np.array([1, np.inf, 0.5], np.float32).reshape(1, 1, 1, 1, 3), "w1")], ["e2", "HCAL"]),
    }
    models["unread"][0][3].attribute[0].ClearField("f")
    models["unread"][1][-1].data_location = TensorProto.DEFAULT
    (folder / "convolutions").mkdir()
    for name, (nodes, initializers, sides) in models.items():
        inputs = [("ECAL", ["N", 7, 7, 9]), ("HCAL", ["N", 3, 3, 5])]
        nodes = [*nodes, node("Concat", [f"{side}_flat" for side in sides], ["x"], axis=1)]
        path = folder / "convolutions" / f"{name}.onnx"
        save(path, nodes, inputs, [("x", ["N", None])], initializers)
        zeros = {name: np.zeros([1, *dims[1:]], np.float32) for name, dims in inputs}
        size = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["x"], zeros)[0].shape[1]
        nodes += [node("Gemm", ["x", "d1"], ["y"]), node("Tanh", ["y"], ["t"]), node("Gemm", ["t", "last"], ["score"])]
        save(path, nodes, inputs, [("score", ["N", 1])], [*initializers, weights(rng, "d1", (size, width)), weights(rng, "last", (width, 1))])


def left_convolutions(rng, folder):
    """Convolutions that ONNX Runtime refuses when they run, and one of an image that is too large."""
    node, image = helper.make_node, [1, 5, 5]
    shape = numpy_helper.from_array(np.array([0, *image]), "shape")
    filters, bias = weights(rng, "w", (2, 1, 2, 2)), weights(rng, "b", (1, 2))
    for name, image, nodes, initializers in [
        ("zero", image, [node("Reshape", ["x", "shape"], ["r"], allowzero=1), node("Conv", ["r", "w"], ["c"])], [shape, filters]),
        ("bias", image, [node("Conv", ["x", "w", "b"], ["c"])], [filters, bias]),
        ("large", [1, 70000, 70000], [node("Conv", ["x", "w"], ["c"])], [filters]),
    ]:
        save(folder / f"left.{name}.onnx", [*nodes, node("Relu", ["c"], ["y"])], [("x", ["N", *image])], [("y", [None, 2, None, None])], initializers)


def tables(folder):
    """Robust and quantile tables, and what scikit-learn makes of some values by them."""
    import json

    from sklearn.preprocessing import QuantileTransformer, RobustScaler

    rng = np.random.default_rng(5)
    learned = np.concatenate([rng.exponential(3, 400), np.full(100, 2.5)])[:, None]
    values = np.concatenate([rng.exponential(3, ROWS - 4), [2.5, -1, 1e6, learned.min()]])[:, None].astype(np.float32).astype(np.float64)
    scaler = RobustScaler().fit(learned)
    uniform = QuantileTransformer(n_quantiles=101).fit(learned)
    normal = QuantileTransformer(n_quantiles=101, output_distribution="normal").fit(learned)
    quantiles = uniform.quantiles_[:, 0].tolist()
    files = {
        "robust": {"x": {"center": scaler.center_[0], "scale": scaler.scale_[0]}},
        "uniform": {"x": {"quantiles": quantiles}},
        "normal": {"x": {"quantiles": quantiles, "output": "normal"}},
    }
    for name, by in [("robust", scaler), ("uniform", uniform), ("normal", normal)]:
        (folder / f"{name}.json").write_text(json.dumps(files[name]))
        by.transform(values).astype("<f4").tofile(folder / f"table.{name}")
    values.astype("<f4").tofile(folder / "table.x")


def rows_for(rng, model):
    """Sparse images with a few negative values, and plain numbers."""
    for wanted in model.get_inputs():
        shape = [ROWS, *wanted.shape[1:]]
        values = rng.standard_normal(shape).astype(np.float32)
        if len(shape) > 2:
            values = np.where(rng.random(shape) < 0.15, values, np.float32(0))
        yield wanted.name, values


def cases(folder):
    rng = np.random.default_rng(17)
    two_images(rng, folder / "two_images.onnx")
    channel(rng, folder / "leading.onnx", ["N", 1, 6, 5], (4, 1, 3, 3))
    channel(rng, folder / "trailing.onnx", ["N", 6, 5, 1], (4, 1, 3, 3))
    channel(rng, folder / "fixed.onnx", [8, 1, 6, 5], (4, 1, 3, 3))
    scaled(folder / "scaled.onnx")
    (folder / "sweep").mkdir()
    for width, layers in [(8, 1), (16, 1), (16, 2), (32, 3)]:
        dense(rng, folder / "sweep" / f"w{width}-d{layers}.onnx", width, layers)
    for path in sorted(folder.glob("*.onnx")) + sorted(folder.glob("sweep/*.onnx")):
        model = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = dict(rows_for(rng, model))
        names = [output.name for output in model.get_outputs()]
        step = 8 if path.stem == "fixed" else ROWS
        padded = {name: np.concatenate([v, np.zeros((-ROWS % step, *v.shape[1:]), np.float32)]) for name, v in inputs.items()}
        parts = [model.run(names, {name: v[i : i + step] for name, v in padded.items()}) for i in range(0, ROWS, step)]
        outputs = {name: np.concatenate(part)[:ROWS] for name, part in zip(names, zip(*parts))}
        for name, values in (inputs | outputs).items():
            values.astype("<f4").tofile(folder / f"{path.stem}.{name}")
    first_layers(np.random.default_rng(3), folder)
    first_convolutions(np.random.default_rng(4), folder)
    left_convolutions(np.random.default_rng(6), folder)
    sweep_of_the_two_images(folder)
    for name in ["float16", "double", "int64", "int32", "uint8", "int8", "uint64", "bool"]:
        typed(folder / f"typed.{name}.onnx", getattr(TensorProto, name.upper()))
    for dims in [(1,), (2, 3, 4), (3, 4, 2), (5,), (3,), (3, 5), (5, 3), (6, 5), (2, 6, 5), (2, 2), (24,)]:
        forms(folder / ("forms." + "x".join(map(str, dims)) + ".onnx"), dims)
    for name, dims in [("number", ["N"]), ("nothing", ["N", 0]), ("scalar", []), ("none", None), ("free", ["N", "K"])]:
        info = [helper.make_tensor_value_info(of, TensorProto.FLOAT, dims) for of in "xy"]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], name, info[:1], info[1:])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / f"shape.{name}.onnx")
    mean = lambda **words: [helper.make_node("ReduceMean", ["x"], ["y"], **words)]
    save(folder / "rows.mean.onnx", mean(axes=[0], keepdims=1), [("x", ["N"])], [("y", [1])], [])
    save(folder / "rows.none.onnx", mean(keepdims=0), [("x", ["N"])], [("y", [])], [])
    save(folder / "rows.eight.onnx", mean(axes=[0], keepdims=1), [("x", [8])], [("y", [1])], [])
    save(folder / "rows.two.onnx", [helper.make_node("Concat", ["a", "b"], ["y"], axis=0)], [("a", [8]), ("b", [4])], [("y", [12])], [])
    inverse(folder / "inverse.onnx")
    tables(folder)
    outside(folder)
    orders(folder)
    wrong(folder)
    (folder / "broken.onnx").write_bytes((folder / "two_images.onnx").read_bytes()[:500])


def orders(folder):
    """Lists, ordered by others as numpy orders them, their first five entries: equal keys in their order, NaN last."""
    rng = np.random.default_rng(8)
    lengths = rng.integers(0, 12, ROWS)
    rows = [(rng.exponential(30, n).astype("<f4"), rng.integers(0, 6, n).astype("<f4") / 4) for n in lengths]
    for _, dr in rows:
        dr[rng.random(len(dr)) < 0.15] = np.nan
    first = lambda values: np.pad(values[:5], (0, 5 - len(values[:5])))
    lengths.astype("<f4").tofile(folder / "order.lengths")
    np.concatenate([pt for pt, _ in rows]).tofile(folder / "order.pt")
    np.concatenate([dr for _, dr in rows]).tofile(folder / "order.dr")
    np.stack([first(pt[np.argsort(dr, kind="stable")]) for pt, dr in rows]).tofile(folder / "order.rising")
    np.stack([first(pt[np.argsort(-dr, kind="stable")]) for pt, dr in rows]).tofile(folder / "order.falling")
    np.stack([first(pt[np.argsort(-pt, kind="stable")]) for pt, _ in rows]).tofile(folder / "order.hardest")


def outside(folder):
    """Models whose weights lie in files beside them: one for all, one each, within a node, and of a branch."""
    beside = folder / "outside"
    beside.mkdir()
    save_model = lambda name, model, **words: onnx.save(model, beside / f"{name}.onnx", save_as_external_data=True, size_threshold=64, **words)
    save_model("one", onnx.load(folder / "two_images.onnx"), location="weights.bin")
    save_model("each", onnx.load(folder / "two_images.onnx"), all_tensors_to_one_file=False)
    model = onnx.load(folder / "two_images.onnx")
    moved = [tensor for tensor in model.graph.initializer if tensor.name in ("d2", "d3")]
    for tensor in moved:
        model.graph.initializer.remove(tensor)
    constants = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in moved]
    for node in reversed(constants):
        model.graph.node.insert(0, node)
    save_model("node", model, location="in_nodes.bin", convert_attribute=True)
    branches = lambda name, value: helper.make_graph([helper.make_node("Identity", [f"{name}_w"], [name])], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])],
                                                     [numpy_helper.from_array(np.array([value], np.float32), f"{name}_w")])
    nodes = [helper.make_node("If", ["yes"], ["b"], then_branch=branches("t", 2.5), else_branch=branches("e", -1)), helper.make_node("Mul", ["x", "b"], ["y"])]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy"]
    graph = helper.make_graph(nodes, "branch", info[:1], info[1:], [numpy_helper.from_array(np.array(True), "yes")])
    branch = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for index, attribute in enumerate(branch.graph.node[0].attribute):
        tensor = attribute.g.initializer[0]
        (beside / f"branch.{index}").write_bytes(b"\0" * 4096 + tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, f"branch.{index}", offset=4096)
        tensor.ClearField("raw_data")
    (beside / "branch.onnx").write_bytes(branch.SerializeToString())
    ecal, hcal = (np.fromfile(folder / f"two_images.{name}", "<f4").reshape(ROWS, *dims) for name, dims in [("ECAL", (7, 7, 9)), ("HCAL", (3, 3, 5))])
    energy = np.fromfile(folder / "two_images.energy", "<f4")
    for name in ["one", "each", "node"]:
        session = onnxruntime.InferenceSession(beside / f"{name}.onnx", providers=["CPUExecutionProvider"])
        assert np.allclose(session.run(["energy"], {"ECAL": ecal, "HCAL": hcal})[0].ravel(), energy, rtol=1e-5)
    session = onnxruntime.InferenceSession(beside / "branch.onnx", providers=["CPUExecutionProvider"])
    assert session.run(["y"], {"x": np.float32([2])})[0] == 5


def wrong(folder):
    """Models that can't be used, each for a reason of its own."""
    node, info = helper.make_node, helper.make_tensor_value_info
    text, number = TensorProto.STRING, TensorProto.FLOAT

    def write(name, nodes, element, opset):
        graph = helper.make_graph(nodes, name, [info("x", element, ["N"])], [info("y", element, ["N"])])
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / f"{name}.onnx")

    standard = [helper.make_opsetid("", 17)]
    write("unknown", [node("NoSuchOperator", ["x"], ["y"])], number, standard)
    write("custom", [node("Fancy", ["x"], ["y"], domain="my.domain")], number, [*standard, helper.make_opsetid("my.domain", 1)])
    write("future", [node("Identity", ["x"], ["y"])], number, [helper.make_opsetid("", 1000)])
    write("texts", [node("Identity", ["x"], ["y"])], text, standard)
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "page.onnx").write_text("<html>404 not found</html>")
    (folder / "cut.onnx").write_bytes((folder / "two_images.onnx").read_bytes()[:-2000])


def sweep_of_the_two_images(folder):
    """What the models of the sweep say of the rows of `two_images`."""
    ecal = np.fromfile(folder / "two_images.ECAL", "<f4").reshape(ROWS, 7, 7, 9)
    hcal = np.fromfile(folder / "two_images.HCAL", "<f4").reshape(ROWS, 3, 3, 5)
    for path in [*folder.glob("sweep/*.onnx"), *folder.glob("layers/*.onnx"), *folder.glob("convolutions/*.onnx")]:
        model = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        model.run(["score"], {"ECAL": ecal, "HCAL": hcal})[0].astype("<f4").tofile(folder / f"{path.parent.name}.{path.stem}")


def run(model, hdf5, dataset, folder):
    """Images of a file of the corpus, and what a model says of them."""
    import h5py

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    images = h5py.File(hdf5)[dataset][:].astype("<f4")
    images.tofile(folder / "images")
    names = [output.name for output in session.get_outputs()]
    for name, values in zip(names, session.run(names, {session.get_inputs()[0].name: images})):
        values.astype("<f4").tofile(folder / name)


if __name__ == "__main__":
    if sys.argv[1] == "cases":
        cases(Path(sys.argv[2]))
    else:
        run(sys.argv[2], sys.argv[3], sys.argv[4], Path(sys.argv[5]))
