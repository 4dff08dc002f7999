"""The commands that speak to a gateway's admin API over HTTP: tenants, tickets, register, events."""
