"""The project's own checks and tests: what runs, at which size, and how long it took."""
