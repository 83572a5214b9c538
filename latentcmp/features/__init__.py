"""Features of structures, in memory and on disk."""
