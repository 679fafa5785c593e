"""What is derived from a model at assembly, and the vectors that it is measured by."""
