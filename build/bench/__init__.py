"""Measures the service beside sentence-transformers and every installed embedding server.

The builder's command `bench` starts it; docs/performance.md says what each figure means.
"""
