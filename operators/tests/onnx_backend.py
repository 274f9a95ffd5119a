"""The tests of the ONNX backend suite that ONNX Runtime in Python passes: `onnx_backend.py FOLDER`.

The node tests are made by the package `onnx` itself (since 1.17 it brings what makes them, and no more their files); the others are
files in it. Writes FOLDER/<test>.onnx, FOLDER/tests.json (the models, with what goes in and what Python's ONNX Runtime says) and FOLDER/values (all of that as float64).
Left out are tests with values that are no numbers (texts, sequences), and those of types that numpy has not.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

NUMBERS = {"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"}


def tensor(path):
    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(proto)


def close(ours, wanted):
    """As the suite compares."""
    if ours.shape != wanted.shape or ours.dtype != wanted.dtype:
        return False
    return np.allclose(ours.astype(float), wanted.astype(float), rtol=1e-3, atol=1e-7, equal_nan=True)


def cases(folder):
    """Name, path of the model, inputs and wanted outputs of each test."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = collect_testcases(None)
    for case in made:
        path = folder / f"{case.name}.onnx"
        onnx.save(case.model, path)
        yield case.name, path, *map(list, case.data_sets[0])
    for path in sorted((Path(onnx.__file__).parent / "backend/test/data").glob("*/test_*/model.onnx")):
        sets = path.parent / "test_data_set_0"
        read = lambda kind: [tensor(sets / f"{kind}_{i}.pb") for i in range(len(list(sets.glob(f"{kind}_*.pb"))))]
        yield path.parent.name, path, read("input"), read("output")


def main(folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    tests, failed, other, offset = [], 0, 0, 0
    with open(folder / "values", "wb") as values:

        def write(name, array):
            nonlocal offset
            array.astype("<f8").tofile(values)
            offset += array.size
            return {"name": name, "type": array.dtype.name, "shape": array.shape, "from": offset - array.size, "count": array.size}

        for name, path, inputs, wanted in cases(folder):
            if not all(isinstance(a, (np.ndarray, np.generic)) and a.dtype.name in NUMBERS for a in [*inputs, *wanted]):
                other += 1
                continue
            inputs, wanted = [np.asarray(a) for a in inputs], [np.asarray(a) for a in wanted]
            try:
                session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
                names = [i.name for i in session.get_inputs()][: len(inputs)]
                said = session.run(None, dict(zip(names, inputs)))
                passes = len(said) == len(wanted) and all(close(a, b) for a, b in zip(said, wanted))
            except Exception:
                passes = False
            if not passes:
                failed += 1
                continue
            if len(names) != len(session.get_inputs()):
                other += 1
                continue
            outputs = [o.name for o in session.get_outputs()]
            tests.append(
                {
                    "name": name,
                    "model": str(path),
                    "inputs": [write(*pair) for pair in zip(names, inputs)],
                    "outputs": [write(*pair) for pair in zip(outputs, said)],
                }
            )
    (folder / "tests.json").write_text(json.dumps({"tests": tests, "failed": failed, "other": other}))


main(Path(sys.argv[1]))
