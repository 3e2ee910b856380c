"""What a pipeline writes, as tables."""

import json
from pathlib import Path


def predictions(path):
    """The predictions of a pipeline as a pandas DataFrame, one row each.

    `path` is what the config has as `predictions.path`: a file that ends in .jsonl or .csv, also a finished one of
    several, or a folder of Parquet files. Times are in UTC. The columns are those of the book's page "Outputs":
    `probabilities` is a dict by class (JSON Lines), a list in the order of the classes (Parquet), or one column a
    class (CSV).

    Raises FileNotFoundError if there is nothing, and ValueError if the ending is another one.
    """
    import pandas

    path = Path(path)
    if path.is_dir():
        # In a part that is being written, nothing is committed for readers yet.
        parts = sorted(part for part in path.glob("*.parquet") if not part.name.startswith(("_", ".")))
        if not parts:
            raise FileNotFoundError(f"{path} has no finished part yet")
        table = pandas.concat([pandas.read_parquet(part) for part in parts], ignore_index=True)
    elif path.suffix == ".jsonl":
        with open(path) as lines:
            table = pandas.DataFrame([json.loads(line) for line in lines])
    elif path.suffix == ".csv":
        table = pandas.read_csv(path, dtype={"id": str, "site": str, "prediction": str})
    else:
        raise ValueError(f"{path} ends neither in .jsonl nor in .csv, and is no folder of Parquet files")
    if table.empty:
        return table
    table["time"] = pandas.to_datetime(table["time"], utc=True, format="ISO8601")
    return table
