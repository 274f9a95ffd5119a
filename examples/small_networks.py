"""What the programs `make_*.py` and `scan_models.py` share: small networks of scikit-learn, written as ONNX."""

import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.exceptions import ConvergenceWarning

# They are trained as long as it takes to try something on, not to the end.
warnings.filterwarnings("ignore", category=ConvergenceWarning)


class Graph:
    """An ONNX graph under construction; a node's name is that of its only output."""

    def __init__(self, inputs):
        self.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]) for name, shape in inputs.items()]
        self.nodes, self.values = [], []

    def value(self, array, kind=np.float32):
        name = f"value{len(self.values)}"
        self.values.append(numpy_helper.from_array(np.asarray(array, kind), name))
        return name

    def add(self, kind, *inputs, **attributes):
        name = f"node{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def total(self, of, axes):
        return self.add("ReduceSum", of, self.value(axes, np.int64), keepdims=0)

    def column(self, of):
        """From (N) to (N, 1)."""
        return self.add("Reshape", of, self.value([-1, 1], np.int64))

    def log(self, of):
        """ln(1 + x)."""
        return self.add("Log", self.add("Add", of, self.value(1)))

    def scaled(self, features, scaler):
        """What a StandardScaler makes of features (N, F)."""
        moved = self.add("Sub", features, self.value(scaler.mean_))
        return self.add("Div", moved, self.value(scaler.scale_))

    def layers(self, features, network):
        """What an MLPClassifier or MLPRegressor makes of features (N, F), before its last function."""
        for number, (weights, offset) in enumerate(zip(network.coefs_, network.intercepts_)):
            if number:
                features = self.add("Relu", features)
            features = self.add("Gemm", features, self.value(weights), self.value(offset))
        return features

    def save(self, path, output, size, kind="Identity", **attributes):
        """Writes the model, whose only output has `size` numbers a row."""
        name = {"Softmax": "probabilities", "Sigmoid": "probability"}.get(kind, "value")
        self.nodes.append(helper.make_node(kind, [output], [name], **attributes))
        told = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        graph = helper.make_graph(self.nodes, "small", self.inputs, [told], self.values)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="calostream examples")
        onnx.checker.check_model(model)
        onnx.save(model, path)
