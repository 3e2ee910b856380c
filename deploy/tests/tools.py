"""Where the tests of what is delivered find the programs that they run."""

import os
import shutil
import subprocess
import unittest
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def program(name):
    """Path of a program: what the variable of its name says, such as HELM, or what is on the PATH."""
    return os.environ.get(name.upper().replace("-", "_")) or shutil.which(name)


def needs(name):
    """Skips a test, saying why, where a program is missing."""
    return unittest.skipUnless(program(name), f"{name} is not here")


def run(name, *arguments, **options):
    """Runs a program that must succeed."""
    ended = subprocess.run([program(name), *map(str, arguments)], capture_output=True, text=True, **options)
    if ended.returncode:
        raise AssertionError(f"{name} {arguments} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended
