"""From a name to a loaded model: where it lies, whether it is trusted, whether it is right."""
