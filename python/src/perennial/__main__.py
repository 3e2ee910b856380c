"""Becomes the program `perennial`, with the libraries of the packages that this one depends on."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

# Where systems keep the certificates that they trust: the program has an OpenSSL of its own, which knows none of them.
CERTIFICATES = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
]


def main():
    program = Path(__file__).parent / "programs" / "perennial"
    if not program.is_file():
        sys.exit(f"perennial: {program} is missing: install the package again, as a wheel for this platform")
    environment = dict(os.environ)
    runtime = next(iter(sorted(_folder("onnxruntime", "capi").glob("libonnxruntime.so*"))), None)
    if runtime:
        environment.setdefault("ORT_DYLIB_PATH", str(runtime))
    environment.setdefault("PERENNIAL_NATIVE", str(_folder("xgboost", "lib")))
    trusted = next(filter(os.path.exists, CERTIFICATES), None)
    if trusted and "SSL_CERT_DIR" not in environment:
        environment.setdefault("SSL_CERT_FILE", trusted)
    os.execve(program, ["perennial", *sys.argv[1:]], environment)


def _folder(package, name):
    """A folder of a package, which is not imported for it."""
    spec = find_spec(package)
    if not spec or not spec.origin:
        sys.exit(f"perennial: the package {package} is missing: run pip install perennial again")
    return Path(spec.origin).parent / name


if __name__ == "__main__":
    main()
