"""The dashboard: a page that every gateway serves by itself, and the data it shows.

A gateway keeps fifteen minutes of what all processes count (`history`), makes an `overview` of them for whoever asks,
by the role of the key, and serves it as JSON beside the page (`routes`). Prometheus is not needed for it.
"""
