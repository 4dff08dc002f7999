"""What a ticket is (bundle, registry: light) and how it is found (factory: torch)."""
