"""Products of matrices: the register tile, panels for the caches, threads."""
