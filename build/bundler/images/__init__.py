"""The bundle as a container image, and the engine that takes it."""
