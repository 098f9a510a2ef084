"""Statistics of a study, frame in and frame out; docs/statistics.md says which is used where."""
