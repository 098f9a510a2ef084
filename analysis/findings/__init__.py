"""The published study: its rows kept small under version control, its questions answered, its page."""
