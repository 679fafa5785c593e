"""Filling a tree: runtime, wheels, bytecode, the diet, and the last look."""
