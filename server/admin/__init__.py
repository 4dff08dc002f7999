"""The admin API of a gateway: tenants, keys, registration, lifecycle, the table, the audit log."""
