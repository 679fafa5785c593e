"""Files into vectors, without a server: what `embedding_sidecar embed` runs."""
