"""The tables of the report as readers see them: column specifications over frames of numbers."""
