"""One module per command. Only `run` may import what the environment has to provide."""
