"""Sidecar: text embeddings on the machine the texts live on."""

__version__ = "0.1.0"
