#!/usr/bin/env python3
"""Verifies a DSSE envelope with securesystemslib, which shares no code with Lakeseal.

    verify_envelope.py VENV ENVELOPE THRESHOLD KEYID=PUBLIC_KEY.pem …

VENV is made, with its packages, when it is not there. Prints one JSON object: who signed, and the in-toto statement.
Exit codes: 0 verified; 1 not; 77 the packages cannot be installed, so nothing was verified.
"""

import json
import pathlib
import subprocess
import sys
import venv

PACKAGES = ["securesystemslib[crypto]==1.6.0"]


def python_in(directory: pathlib.Path) -> pathlib.Path:
    """The interpreter of a virtual environment that has the packages."""
    python = directory / "bin" / "python"
    ready = directory / "ready"
    if not ready.exists():
        venv.create(directory, with_pip=True, clear=True)
        install = subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True)
        if install.returncode != 0:
            print(f"SKIPPED: {PACKAGES} cannot be installed: {install.stderr[-500:]}", file=sys.stderr)
            sys.exit(77)
        ready.write_text("\n".join(PACKAGES))
    return python


def verify(envelope_file: str, threshold: int, named: list[str]) -> int:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    keys = []
    for text in named:
        keyid, file = text.split("=", 1)
        keys.append(SSlibKey.from_crypto(load_pem_public_key(pathlib.Path(file).read_bytes()), keyid=keyid))
    document = json.loads(pathlib.Path(envelope_file).read_text())
    envelope = Envelope.from_dict(document)
    try:
        accepted = envelope.verify(keys, threshold)
    except VerificationError as error:
        print(f"not verified: {error}", file=sys.stderr)
        return 1
    schemes = {key.keyid: key.scheme for key in accepted.values()}
    print(json.dumps({"accepted": schemes, "type": envelope.payload_type, "payload": json.loads(envelope.payload)}))
    return 0


def main() -> int:
    directory, envelope, threshold, *named = sys.argv[1:]
    if pathlib.Path(sys.prefix).resolve() != pathlib.Path(directory).resolve():
        python = python_in(pathlib.Path(directory))
        return subprocess.run([python, __file__, *sys.argv[1:]]).returncode
    return verify(envelope, int(threshold), named)


if __name__ == "__main__":
    sys.exit(main())
