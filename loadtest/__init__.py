"""The honest stopwatch: an open-loop load generator. Knows Tombola only by its HTTP API."""
