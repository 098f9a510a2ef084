"""Tables, statistics, figures and the report; never imports torch."""
