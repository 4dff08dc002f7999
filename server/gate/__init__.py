"""The gate: what a bundle must pass before the table may name it, in a process of its own."""
