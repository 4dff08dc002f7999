"""The dependency audit fails on what is known, and says how much it could not look up."""

from tests.audit import read

KNOWN = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
CLEAN = {"name": "b", "version": "1", "vulns": []}
UNREACHED = {"name": "c", "skip_reason": "not found"}


def test_a_known_vulnerability_is_named_with_its_fix() -> None:
    audit = read({"dependencies": [KNOWN, CLEAN]})
    assert audit.vulnerable == ["  a 1: CVE-1, fixed in 2"]
    assert "CVE-1" in audit.said()


def test_nothing_looked_at_is_not_nothing_found() -> None:
    assert read({"dependencies": [UNREACHED]}).said().startswith("NOT AUDITED")
    assert read({"dependencies": [UNREACHED, CLEAN]}).said() == (
        "no known vulnerabilities in 1 packages; 1 could not be looked up"
    )
