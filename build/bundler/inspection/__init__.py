"""Looking into bundles: whose a file is, how large, why, and whether it is needed."""
