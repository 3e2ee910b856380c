"""The package for Python, on what the program writes and asks for."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import perennial
from perennial import trainer

PROGRAM = os.environ["PERENNIAL"]
CHECKOUT = Path(__file__).resolve().parents[2]

# A trainer that is nothing but the package's and a model of scikit-learn.
TRAINER = """
import numpy
from perennial import trainer
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

request = trainer.read_request()
assert request.features.dtype == numpy.float32 and len(request.features) == len(request.labels)
assert list(request.times) == sorted(request.times) and request.names[0] == "s0"
# One sample of each class that the task may lack.
features = numpy.vstack([request.features, numpy.full((len(request.classes), len(request.names)), numpy.nan)])
labels = numpy.r_[request.labels, numpy.arange(len(request.classes))]
weights = numpy.r_[request.weights, numpy.full(len(request.classes), 0.01)]
model = make_pipeline(SimpleImputer(keep_empty_features=True), LogisticRegression(max_iter=1000))
model.fit(features, labels, logisticregression__sample_weight=weights)
kinds = [("features", FloatTensorType([None, len(request.names)]))]
onnx = to_onnx(model, initial_types=kinds, options={"zipmap": False})
request.write_model(onnx, samples=len(request.labels))
"""


class Package(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def run_simulator(self, *settings):
        """Runs the simulated fleet in the folder; returns its report."""
        config = CHECKOUT / "configs/simulator.yaml"
        state = self.folder / f"state-{len(list(self.folder.iterdir()))}"
        report = self.folder / "report.json"
        arguments = [PROGRAM, "run", config, "--state", state, "--report", report]
        for setting in ["source.simulator.records=6000", "bootstrap.records=1000", *settings]:
            arguments += ["--set", setting]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "RUST_LOG": "warn"}
        ended = subprocess.run(arguments, capture_output=True, text=True, cwd=self.folder, env=environment)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        return json.loads(report.read_text()), state

    def test_predictions_of_each_format_are_one_table(self):
        tables = []
        for name in ["predictions.jsonl", "predictions.csv", "predictions.parquet"]:
            report, _ = self.run_simulator(f"predictions.path={name}")
            table = perennial.predictions(self.folder / name)
            self.assertEqual(len(table), report["predicted"])
            self.assertEqual(str(table["time"].dt.tz), "UTC")
            tables.append(table[["id", "time", "site", "task", "model", "prediction", "epoch"]])
        for table in tables[1:]:
            self.assertTrue((table.astype(str) == tables[0].astype(str)).all().all())

    def test_what_is_no_file_of_predictions_is_refused(self):
        with self.assertRaises(FileNotFoundError):
            perennial.predictions(self.folder / "missing.jsonl")
        with self.assertRaises(FileNotFoundError):
            perennial.predictions(self.folder)
        with self.assertRaisesRegex(ValueError, "neither in .jsonl nor in .csv"):
            perennial.predictions(self.folder / "predictions.txt")

    def test_a_trainer_of_a_few_lines_trains(self):
        (self.folder / "train.py").write_text(TRAINER)
        source = CHECKOUT / "python/src"
        command = f"[env, PYTHONPATH={source}, python3, {self.folder / 'train.py'}]"
        report, state = self.run_simulator(f"training.trainer={{command: {command}}}", "training.candidates=[scratch]")
        stages = subprocess.run([PROGRAM, "kb", "stages", "--state", state, "--json"], capture_output=True, text=True)
        trained = [stage for stage in json.loads(stages.stdout) if stage["stage"] == "train"]
        self.assertTrue(trained)
        for stage in trained:
            self.assertEqual(stage["state"], "completed", stage)
        self.assertIn("samples", trained[0]["detail"])
        self.assertGreater(report["accuracy"], 0.5)

    def test_another_version_of_the_contract_is_refused(self):
        request = self.folder / "request.json"
        request.write_text('{"version": 2}')
        with self.assertRaisesRegex(SystemExit, "knows version 1 of the contract, not 2"):
            trainer.read_request(request)


if __name__ == "__main__":
    unittest.main()
