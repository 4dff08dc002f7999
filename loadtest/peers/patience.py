"""Tombola with tiers that promise nothing: what closed loops need, which ask how much comes through at all.

A caller can shorten a tier's deadline but not lengthen it, and the starter's tiers promise 100 ms. So the table that
`tombola up` has published is published again with longer deadlines and is otherwise unchanged. Open loops then
name their own deadline with each request. Works through the command line, as an operator would.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.peers.environments import PeerFailed


def lengthen_deadlines(
    python: Path, redis_url: str, key: str, *, deadline_ms: float, environment: Mapping[str, str], scratch: Path
) -> None:
    """Publish the installation's table again with this deadline for every tier. Raises PeerFailed."""

    def route(*arguments: str) -> str:
        command = [str(python), "-m", "routing", *arguments, "--redis-url", redis_url]
        result = subprocess.run(
            command, cwd=scratch, env=dict(environment), capture_output=True, text=True, check=False
        )
        if result.returncode:
            raise PeerFailed(f"tombola route {arguments[0]} failed: {result.stderr.strip()[-400:]}")
        return result.stdout

    path = scratch / "table.json"
    path.write_text(json.dumps(lengthened(json.loads(route("show", "--json")), key, deadline_ms)))
    route("publish", str(path))


def lengthened(table: dict[str, Any], key: str, deadline_ms: float) -> dict[str, Any]:
    """The document to publish: as shown, with the tenant's key in clear (only its hash's beginning is shown)."""
    tenants = {}
    for name, tenant in table["tenants"].items():
        for domain in tenant["domains"].values():
            for tier in domain["tiers"].values():
                tier["deadline_ms"] = deadline_ms
        tenants[name] = {field: value for field, value in tenant.items() if field != "key_hashes"} | {"keys": [key]}
    return {"families": table["families"], "tenants": tenants}
