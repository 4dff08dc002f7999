"""The rights that docs/redis.md gives a user of Redis, so that it is the documented lines that are tried."""

from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "redis.md"


def documented_rights(namespace: str) -> tuple[list[str], list[str]]:
    """The arguments of ``ACL SETUSER``: those that everybody needs, and those that a cluster needs besides."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ").replace("NAMESPACE", namespace)
    lines = [line.split()[2:] for line in text.splitlines() if line.startswith("ACL SETUSER tombola ")]
    everybody, in_a_cluster = lines
    return everybody, in_a_cluster
