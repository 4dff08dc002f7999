"""Remakes bundle_v1.ticket: `python -m tests.golden.remake_bundle` from the repository's root.

Version 1 files must stay readable for ever, so the golden file is made once. Remake it only
for a change that makes format 2, under the new name, and keep this one beside it.
"""

from pathlib import Path

from tests.tiny import tiny_bundle

if __name__ == "__main__":
    Path(__file__).with_name("bundle_v1.ticket").write_bytes(tiny_bundle())
