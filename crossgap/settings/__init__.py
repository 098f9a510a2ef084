"""Settings: read strictly from files and command lines, changed by their paths, compared."""
