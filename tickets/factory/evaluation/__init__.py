"""The evaluation suite: the same questions for every ticket, and gates that its answers must pass."""
