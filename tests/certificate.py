# A certificate that signs itself, and its key, for tests whose settings must name real files of TLS. No test is here.

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path


@cache
def self_signed(subject: str = "/CN=kafka", *extensions: str) -> tuple[str, str]:
    """
    The certificate and its key, as PEM; the same for the whole run.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key",
            "-out",
            "certificate",
            "-days",
            "2",
            "-subj",
        ]
        command += [subject, *(word for each in extensions for word in ("-addext", each))]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
        return (Path(folder) / "certificate").read_text(), (Path(folder) / "key").read_text()
