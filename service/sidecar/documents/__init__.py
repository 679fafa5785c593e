"""From a file to chunks: which may be read, by which process, and where they are cut."""
