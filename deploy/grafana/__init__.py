"""Grafana's dashboards and how they are made. `python -m deploy.grafana` writes `dashboards/*.json`."""
