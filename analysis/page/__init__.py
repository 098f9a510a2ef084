"""The page of a report: what stands on it, and its template."""
