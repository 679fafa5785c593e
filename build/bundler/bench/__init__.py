"""How fast the service is, measured beside others on the same texts, threads and machine."""
