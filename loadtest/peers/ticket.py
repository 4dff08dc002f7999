"""The ticket, unpacked so that any server can use it: ``model.onnx``, ``tokenizer.json`` and ``ticket.json``.

Owns a reader of the bundle format (docs/bundle-format.md) that is just large enough for this benchmark,
because the load generator imports nothing of Tombola. Members are checked against their digests;
everything else about a bundle is verified by `tombola verify`.
"""

import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any, NamedTuple

MAGIC = b"\x89TMBL\r\n\x1a"
PREAMBLE = struct.Struct("<8sII")
FILES = ("model.onnx", "tokenizer.json")


class Unpacked(NamedTuple):
    """A ticket's files lie in ``folder``; ``id`` is the sha256 of its bundle."""

    id: str
    folder: Path
    domain: str
    tier: str


def unpack(bundle: Path, into: Path) -> Unpacked:
    """Unpack a text-classification ticket to a folder of its own below ``into``.

    Raises ValueError for what is not such a ticket, OSError where files cannot be read or written.
    """
    data = bundle.read_bytes()
    header = _header(bundle, data)
    manifest, members = header["manifest"], {member["name"]: member for member in header["members"]}
    if manifest["task"] != "text-classification":
        raise ValueError(f"{bundle} is a ticket for {manifest['task']}; the peers here classify texts")
    name = hashlib.sha256(data).hexdigest()
    folder = into / name[:12]
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        (folder / file).write_bytes(_member(data, members[file]))
    (folder / "ticket.json").write_text(json.dumps(_facts(manifest)))
    return Unpacked(name, folder, manifest["domain"], manifest.get("tier") or "")


def starter_of_one(bundle: Path, domain: str, tier: str, folder: Path) -> Path:
    """A starter folder for `tombola up` that holds this ticket alone, so that no other can answer."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle, folder / bundle.name)
    (folder / "family.json").write_text(json.dumps({"families": {domain: [{"file": bundle.name, "tier": tier}]}}))
    return folder


def qualities(folder: Path) -> dict[str, float]:
    """Held-out accuracy, as each ticket's manifest states it, of all tickets in a folder, by id."""
    found = {}
    for path in sorted(folder.glob("*.ticket")):
        data = path.read_bytes()
        found[hashlib.sha256(data).hexdigest()] = float(_header(path, data)["manifest"]["evidence"]["quality"])
    return found


def _header(path: Path, data: bytes) -> dict[str, Any]:
    if len(data) < PREAMBLE.size or not data.startswith(MAGIC):
        raise ValueError(f"{path} is not a ticket")
    _, header_bytes, _ = PREAMBLE.unpack(data[: PREAMBLE.size])
    header: dict[str, Any] = json.loads(data[PREAMBLE.size : PREAMBLE.size + header_bytes])
    return header


def _member(data: bytes, member: dict[str, Any]) -> bytes:
    part = data[member["offset"] : member["offset"] + member["bytes"]]
    if hashlib.sha256(part).hexdigest() != member["sha256"]:
        raise ValueError(f"member {member['name']} is damaged")
    return part


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What `loadtest.peers.model` needs to know beside the graph and the tokenizer."""
    return {
        "labels": manifest["labels"],
        "max_tokens": manifest["tokenizer"]["max_tokens"],
        "pad_id": manifest["tokenizer"]["pad_id"],
        **{key: manifest["calibration"][key] for key in ("temperature", "out_of_scope", "threshold")},
    }
