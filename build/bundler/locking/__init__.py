"""Refreshing the locks of wheels and models."""
