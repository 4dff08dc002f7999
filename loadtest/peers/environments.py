"""A virtual environment for each peer, made when it is first needed and when its pins change.

ONNX Runtime and tokenizers have the versions that Tombola itself runs with. pip finds packages where it is
configured to. A peer that cannot be installed is reported with pip's reason.
"""

import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

SHARED = ("onnxruntime", "tokenizers", "numpy")
STAMP = ".installed"


class PeerFailed(Exception):
    """A peer that cannot be installed, does not start, or answers otherwise than the bare loop."""


def python_of(name: str, requirements: Sequence[str], folder: Path) -> Path:
    """The interpreter of the peer's own environment below ``folder``; this one's for no requirements.

    Raises PeerFailed.
    """
    if not requirements:
        return Path(sys.executable)
    home = folder.absolute() / name
    python, wanted = home / "bin" / "python", "\n".join([*requirements, *(f"{n}=={version(n)}" for n in SHARED)])
    stamp = home / STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    if not python.exists():
        venv.create(home, with_pip=True)
    result = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted.split("\n")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode != 0:
        reasons = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise PeerFailed("cannot be installed: " + " ".join(reasons)[:600])
    stamp.write_text(wanted)
    return python
