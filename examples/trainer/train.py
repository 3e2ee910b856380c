"""Fits a logistic regression, or a ridge regression where the label is a number, for Perennial: reads the request whose path is the last argument, and leaves an ONNX model.
The contract is in docs/src/trainers.md."""

import json
import sys

import numpy as np
import pyarrow.parquet as parquet
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def read(request):
    """The samples as a matrix, NaN where a value is missing, their class numbers or numbers, and how much each counts."""
    table = parquet.read_table(request["samples"]["path"])
    names = [feature["name"] for feature in request["features"]]
    columns = [table[name].to_numpy().astype(np.float32) for name in names]
    labels, weights = (table[request["samples"][name]].to_numpy() for name in ("label", "weight"))
    return np.column_stack(columns), labels, weights


def fit_number(features, labels, weights):
    model = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), Ridge())
    return model.fit(features, labels, ridge__sample_weight=weights)


def fit_classes(features, labels, weights, classes, seed):
    # The model must answer for all classes, and this task may have no sample of some: one sample of each, of which
    # nothing is known, counts very little.
    unknown = np.full((classes, features.shape[1]), np.nan, np.float32)
    weights = np.r_[weights, np.full(classes, 0.01)]
    model = make_pipeline(
        SimpleImputer(keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(max_iter=1000, random_state=seed),
    )
    model.fit(
        np.vstack([features, unknown]),
        np.r_[labels, np.arange(classes)],
        logisticregression__sample_weight=weights,
    )
    return model


def main():
    with open(sys.argv[-1]) as file:
        request = json.load(file)
    if request["version"] != 1:
        raise SystemExit(f"this trainer knows version 1 of the contract, not {request['version']}")
    features, labels, weights = read(request)
    if request["kind"] == "number":
        # Its output is floats [N, 1].
        model, options, score = fit_number(features, labels, weights), None, "training R2"
    else:
        seed = request["settings"]["seed"]
        model = fit_classes(features, labels, weights, len(request["classes"]), seed)
        # Without ZipMap, so that the probabilities are floats [N, classes].
        options, score = {"zipmap": False}, "training accuracy"
    onnx = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, features.shape[1]]))],
        options=options,
    )
    with open(request["model"], "wb") as file:
        file.write(onnx.SerializeToString())
    with open(request["metrics"], "w") as file:
        json.dump({score: round(model.score(features, labels, weights), 4)}, file)


if __name__ == "__main__":
    main()
