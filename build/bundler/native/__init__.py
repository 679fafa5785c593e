"""What native files ask of a system, and whether it is there."""
