"""Trials under way: who has which, in which process, and where their files lie."""
