"""Benchmarks behind the numbers in README.md: run them all with `make bench`."""
