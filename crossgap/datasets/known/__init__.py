"""Known datasets: a table of them, the layouts on disk, and what their files must hold."""
