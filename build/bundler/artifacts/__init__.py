"""Bringing in what is locked, and keeping it by its hash."""
