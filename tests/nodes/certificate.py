"""This is where we make a certificate for a server on this machine."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate for `localhost`; it is its own authority."""

    path: Path
    key_path: Path


def make_certificate(folder: Path) -> Certificate:
    """Write a new certificate and its key to `folder`, with the `openssl` of this machine."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "3", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-out", str(made.path), "-keyout", str(made.key_path)]
    subprocess.run(command, check=True, capture_output=True)
    return made
