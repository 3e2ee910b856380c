"""What each trainer of one's own begins and ends with: reading the samples, and writing the model.

    from perennial import trainer

    request = trainer.read_request()
    model = fit(request.features, request.labels, request.weights)
    request.write_model(to_onnx(model), accuracy=0.9)

The contract is in the book, page "Your own trainer".
"""

import json
import sys
from dataclasses import dataclass

# Version of the contract.
VERSION = 1


@dataclass(frozen=True)
class Request:
    """One training: its samples, and where its model goes."""

    # float32 [N, features], NaN where a value is missing.
    features: "numpy.ndarray"
    # int32 [N], the position of the class in `classes`; or float32 [N], the number.
    labels: "numpy.ndarray"
    # float32 [N], how much each sample counts; 1 on average.
    weights: "numpy.ndarray"
    # datetime64[us] [N], the event times in UTC. Rows are in the order of the stream.
    times: "numpy.ndarray"
    # Names of the columns of `features`.
    names: list[str]
    # Texts of categorical features, by name: a value is the position of its text.
    values: dict[str, list[str]]
    # Names of the classes; empty where the label is a number.
    classes: list[str]
    # Id, name and version of the task.
    task: dict
    # `training.trees` of the config, above all `seed`.
    settings: dict
    # Paths of the model and of its metrics.
    model_path: str
    metrics_path: str

    def write_model(self, onnx, **metrics):
        """Writes an ONNX model, bytes or a ModelProto, and metrics: numbers that `perennial kb stages` shows."""
        if hasattr(onnx, "SerializeToString"):
            onnx = onnx.SerializeToString()
        with open(self.model_path, "wb") as file:
            file.write(onnx)
        with open(self.metrics_path, "w") as file:
            json.dump({name: float(value) for name, value in metrics.items()}, file)


def read_request(path=None):
    """Reads the request at a path, by default the last argument of the command.

    Raises SystemExit if it is of another version of the contract.
    """
    import numpy
    from pyarrow import parquet

    with open(path or sys.argv[-1]) as file:
        request = json.load(file)
    if request["version"] != VERSION:
        raise SystemExit(f"this trainer knows version {VERSION} of the contract, not {request['version']}")
    samples, features = request["samples"], request["features"]
    table = parquet.read_table(samples["path"])
    names = [feature["name"] for feature in features]
    columns = [table[name].to_numpy().astype(numpy.float32) for name in names]
    labels, weights, times = (table[samples[name]].to_numpy() for name in ("label", "weight", "time"))
    return Request(
        features=numpy.column_stack(columns),
        labels=labels,
        weights=weights,
        times=times,
        names=names,
        values={feature["name"]: feature["values"] for feature in features if "values" in feature},
        classes=request["classes"],
        task=request["task"],
        settings=request["settings"],
        model_path=request["model"],
        metrics_path=request["metrics"],
    )
