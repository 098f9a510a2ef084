"""Figures in two halves: *info* (numbers, tested by equality) and *drawing* (info to Figure)."""
