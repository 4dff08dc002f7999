"""`python -m deploy.grafana`: writes the dashboards' JSON beside this file.

Owns the names of the files; what is in them belongs to the neighbours. A test holds the files against this.
"""

import json
from pathlib import Path

from deploy.grafana.family import family
from deploy.grafana.fleet import fleet
from deploy.grafana.panels import Json
from deploy.grafana.tenant import tenant
from deploy.grafana.worker import worker

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, Json]:
    """All of them, by the name of the file."""
    made = {"fleet": fleet(), "tenant": tenant(), "family": family(), "worker": worker()}
    return {f"{name}.json": dashboard for name, dashboard in made.items()}


def text(dashboard: Json) -> str:
    """The contents of a file."""
    return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, dashboard in dashboards().items():
        (FOLDER / name).write_text(text(dashboard))
