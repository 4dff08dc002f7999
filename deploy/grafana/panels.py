"""The pieces of Grafana dashboards as small functions that return Grafana's JSON, as plain dictionaries.

Owns what is the same everywhere: the data source, legends, colours, thresholds, links, where panels stand. What is
shown belongs to `deploy.grafana.fleet`, `tenant`, `family` and `worker`; `python -m deploy.grafana` writes the files,
so that nobody edits thousands of lines of JSON by hand. Units are Grafana's: ``s``, ``percentunit``, ``reqps``.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Json = dict[str, Any]

SCHEMA_VERSION = 42
SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
WHERE = 'installation=~"$installation"'
"""Part of every selector: which installation is looked at. All of them includes those that have no such label."""
GREEN, YELLOW, RED = "green", "orange", "red"
_COLUMNS = 24


class Query:
    """One expression of PromQL, and what its series are called."""

    def __init__(self, expr: str, legend: str = "", *, is_instant: bool = False, is_line: bool = False) -> None:
        """``is_line``: a limit rather than a measurement; drawn dashed and unfilled."""
        self.expr, self.legend, self.is_instant, self.is_line = expr, legend, is_instant, is_line

    def json(self, place: int) -> Json:
        """As a target of a panel."""
        return {
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": self.expr,
            "instant": self.is_instant,
            "range": not self.is_instant,
            "legendFormat": self.legend or "__auto",
            "refId": chr(ord("A") + place),
            **({"format": "table"} if self.is_instant else {}),
        }


def thresholds(*steps: tuple[float, str], base: str = GREEN) -> Json:
    """Colours from values on: ``base`` below the first."""
    return {
        "mode": "absolute",
        "steps": [{"color": base, "value": None}, *({"color": colour, "value": value} for value, colour in steps)],
    }


def timeseries(
    title: str, description: str, *queries: Query, unit: str = "short", width: int = 8, height: int = 8,
    is_stacked: bool = False, limits: Json | None = None, most: float | None = None, is_log: bool = False,
) -> Json:  # fmt: skip
    """A chart over time. ``limits`` are drawn as lines; ``most`` is the top of the axis."""
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if is_stacked else 8,
        "showPoints": "never",
        "spanNulls": 60_000,
        "stacking": {"group": "A", "mode": "normal" if is_stacked else "none"},
        "scaleDistribution": {"type": "log", "log": 10} if is_log else {"type": "linear"},
        "thresholdsStyle": {"mode": "dashed" if limits else "off"},
    }
    lines = [
        {
            "matcher": {"id": "byFrameRefID", "options": chr(ord("A") + place)},
            "properties": [
                {"id": "custom.lineStyle", "value": {"dash": [8, 6], "fill": "dash"}},
                {"id": "custom.fillOpacity", "value": 0},
                {"id": "custom.stacking", "value": {"group": "B", "mode": "none"}},
                {"id": "color", "value": {"fixedColor": RED, "mode": "fixed"}},
            ],
        }
        for place, query in enumerate(queries)
        if query.is_line
    ]
    defaults: Json = {"unit": unit, "min": 0, "custom": custom, "thresholds": limits or thresholds()}
    if is_log:
        del defaults["min"]
    if most is not None:
        defaults["max"] = most
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel("timeseries", title, description, queries, width, height, defaults, options, lines)


def stat(
    title: str, description: str, query: Query, *, unit: str = "short", limits: Json | None = None, width: int = 4,
    decimals: int | None = None,
) -> Json:  # fmt: skip
    """One number, with its recent course behind it."""
    defaults: Json = {"unit": unit, "thresholds": limits or thresholds(base="blue"), "noValue": "no data"}
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }  # fmt: skip
    return _panel("stat", title, description, [query], width, 4, defaults, options, [])


def heatmap(title: str, description: str, query: Query, *, unit: str, width: int = 8) -> Json:
    """Buckets of a histogram over time; the query's legend must be ``{{le}}``."""
    options = {
        "calculate": False,
        "color": {"mode": "scheme", "scheme": "Viridis", "steps": 64, "reverse": False},
        "yAxis": {"unit": unit, "axisPlacement": "left"},
        "cellGap": 0,
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": True},
    }
    panel = _panel("heatmap", title, description, [query], width, 8, {}, options, [])
    panel["targets"][0]["format"] = "heatmap"
    return panel


def table(
    title: str, description: str, columns: Mapping[str, tuple[Query, str, Json | None]], *, labels: Sequence[str],
    links: Mapping[str, str] | None = None, width: int = 24, height: int = 9, sort: str = "",
) -> Json:  # fmt: skip
    """Rows by ``labels``; each column a query with its unit and colours. ``links``: label -> where a click leads."""
    overrides: list[Json] = []
    for name, (_, unit, limits) in columns.items():
        properties: list[Json] = [{"id": "unit", "value": unit}]
        if limits is not None:
            properties += [
                {"id": "thresholds", "value": limits},
                {"id": "custom.cellOptions", "value": {"type": "color-text"}},
            ]
        overrides.append({"matcher": {"id": "byName", "options": name}, "properties": properties})
    for label, url in (links or {}).items():
        link = {"title": "Look closer", "url": url}
        overrides.append(
            {"matcher": {"id": "byName", "options": label}, "properties": [{"id": "links", "value": [link]}]}
        )
    queries = [query for query, _, _ in columns.values()]
    renamed = {f"Value #{chr(ord('A') + place)}": name for place, name in enumerate(columns)}
    if len(columns) == 1:  # Grafana numbers them only where there are several
        renamed = {"Value": next(iter(columns))}
    keep = [*labels, *renamed]
    options: Json = {"showHeader": True, "cellHeight": "sm"}
    if sort:
        options["sortBy"] = [{"displayName": sort, "desc": True}]
    panel = _panel(
        "table", title, description, queries, width, height, {"custom": {"filterable": True}}, options, overrides
    )
    panel["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": keep}}},
        {
            "id": "organize",
            "options": {"renameByName": renamed, "indexByName": {name: place for place, name in enumerate(keep)}},
        },
    ]
    return panel


def row(title: str) -> Json:
    """A heading; what follows stands below it."""
    return {"type": "row", "title": title, "collapsed": False, "panels": []}


def variable(name: str, label: str, query: str, *, is_many: bool = False, everything: str | None = ".*") -> Json:
    """A choice among the values of a label. ``everything``: the pattern that stands for All; None: all its values."""
    made: Json = {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "query": {"query": query, "refId": f"variable-{name}"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "multi": is_many,
        "current": {"text": "All", "value": "$__all"},
    }
    if everything is not None:
        made["allValue"] = everything
    return made


def dashboard(name: str, title: str, description: str, variables: Sequence[Json], panels: Sequence[Json]) -> Json:
    """A whole dashboard, linked to the others. Its uid is ``tombola-<name>``."""
    source = {
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1,
        "includeAll": False, "multi": False,
    }  # fmt: skip
    installation = variable("installation", "Installation", "label_values(tombola_up, installation)")
    alerts = {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": RED,
        "expr": f'ALERTS{{alertname=~"Tombola.*",alertstate="firing",severity="page",{WHERE}}}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{tenant}} {{process}} {{ticket}}",
    }
    return {
        "id": None,
        "uid": f"tombola-{name}",
        "title": title,
        "description": description,
        "tags": ["tombola"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "annotations": {"list": [alerts]},
        "links": [
            {
                "type": "dashboards", "title": "Tombola", "tags": ["tombola"], "asDropdown": False, "icon": "dashboard",
                "includeVars": True, "keepTime": True, "targetBlank": False, "tooltip": "", "url": "",
            }
        ],
        "templating": {"list": [source, installation, *variables]},
        "panels": list(_placed(panels)),
    }  # fmt: skip


def _panel(
    kind: str, title: str, description: str, queries: Sequence[Query], width: int, height: int, defaults: Json,
    options: Json, overrides: list[Json],
) -> Json:  # fmt: skip
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": options,
        "targets": [query.json(place) for place, query in enumerate(queries)],
    }


def _placed(panels: Sequence[Json]) -> Iterator[Json]:
    """Every panel with an id and a place: from left to right, headings over the whole width."""
    x = y = tallest = 0
    for number, panel in enumerate(panels, 1):
        is_row = panel["type"] == "row"
        width, height = (_COLUMNS, 1) if is_row else (panel["gridPos"]["w"], panel["gridPos"]["h"])
        if x + width > _COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        yield {"id": number, **panel, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
        x, tallest = x + width, max(tallest, height)
