"""What rows say: which may be quoted, what routes reach, and what differs. Imports no torch."""
