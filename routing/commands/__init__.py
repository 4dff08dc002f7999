"""The sub-commands of `tombola route`, one file for each thing that people do with the table."""
