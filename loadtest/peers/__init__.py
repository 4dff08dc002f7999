"""The comparison with other servers: the same ticket, texts, cores and client for all of them, one after another."""
