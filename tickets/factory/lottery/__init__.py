"""The lottery: which weights survive, found by iterative pruning with rewinding, and held against its controls."""
