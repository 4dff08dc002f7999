"""A run as one web page: its sections, its plots, and how they look."""
