"""Perennial for Python: the program, `predictions` of its pipelines, and `trainer` for trainers of one's own."""

from importlib.metadata import PackageNotFoundError, version

from perennial.outputs import predictions

try:
    __version__ = version("perennial")
except PackageNotFoundError:  # from a checkout
    __version__ = "0"

__all__ = ["predictions"]
