"""Who goes where: the table, the decision, and the store that holds the table."""
