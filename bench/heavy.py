"""Writes a starter folder whose first ticket is the dense parent: `python -m bench.heavy bench/out/heavy`.

For comparisons under overload (`python -m loadtest.peers --overload-only --ticket ...`): with a ticket that takes
milliseconds, the model is what is overloaded, and not the client, whose cores the servers share.
"""

import json
import shutil
from pathlib import Path

import click
import msgspec

from bench.dense import TIER, dense_ticket
from bench.family import STARTER
from bench.overload import DENSE_MS, DENSE_QUALITY
from tickets import bundle as bundles
from tickets.manifest import Evidence

CHEAPER = ("accurate", "balanced", "fast")


@click.command(epilog="Example: python -m bench.heavy bench/out/heavy")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write the dense parent of the banking family, the family below it, and the family.json that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    dense = dense_ticket(bundles.read(STARTER / "banking-accurate.ticket"), service_ms=DENSE_MS).bundle
    # As the factory measured them; weights made afresh here only have the parent's speed.
    evidence = Evidence(quality=DENSE_QUALITY, service_ms=DENSE_MS)
    manifest = msgspec.structs.replace(dense.manifest, evidence=evidence)
    members = {name: bytes(data) for name, data in dense.members.items()}
    files = {TIER: f"banking-{TIER}.ticket"} | {tier: f"banking-{tier}.ticket" for tier in CHEAPER}
    (folder / files[TIER]).write_bytes(bundles.pack(manifest, members))
    for tier in CHEAPER:
        shutil.copyfile(STARTER / files[tier], folder / files[tier])
    entries = [{"file": file, "tier": tier} for tier, file in files.items()]
    (folder / "family.json").write_text(json.dumps({"families": {"banking": entries}}))
    click.echo(folder / files[TIER])


if __name__ == "__main__":
    main()
