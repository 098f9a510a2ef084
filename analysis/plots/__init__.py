"""Figures in two halves: *info* (the numbers, compared by equality in tests) and *drawing* (info to Figure)."""
