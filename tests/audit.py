"""The dependency audit of `make check`: known vulnerabilities of what is installed, and how much could be looked up.

Owns the reading of pip-audit's report. A vulnerability fails the check; advisories that cannot be reached do not, but
are said so: a check that looked at nothing must not look like one that found nothing.
"""

import json
import subprocess
import sys
from typing import Any, NamedTuple

PATIENCE_S = 300


class Audit(NamedTuple):
    """What an audit has found."""

    audited: int
    skipped: int
    vulnerable: list[str]

    def said(self) -> str:
        """The result in words."""
        if self.vulnerable:
            return "\n".join(["known vulnerabilities:", *self.vulnerable])
        if self.audited == 0:
            return f"NOT AUDITED: the advisories of none of {self.skipped} packages could be reached from here"
        missing = f"; {self.skipped} could not be looked up" if self.skipped else ""
        return f"no known vulnerabilities in {self.audited} packages{missing}"


def read(report: dict[str, Any]) -> Audit:
    """The audit in pip-audit's JSON report."""
    dependencies = report["dependencies"]
    audited = [one for one in dependencies if "skip_reason" not in one]
    vulnerable = [_line(one, found) for one in audited for found in one["vulns"]]
    return Audit(len(audited), len(dependencies) - len(audited), vulnerable)


def _line(package: dict[str, Any], found: dict[str, Any]) -> str:
    fixed = ", ".join(found["fix_versions"]) or "no version yet"
    return f"  {package['name']} {package['version']}: {found['id']}, fixed in {fixed}"


def main() -> None:
    """Audit this environment; exit with 1 where a vulnerability is known."""
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        audit = read(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        print(f"NOT AUDITED: pip-audit gave no report ({type(error).__name__})")
        return
    print(audit.said())
    sys.exit(1 if audit.vulnerable else 0)


if __name__ == "__main__":
    main()
