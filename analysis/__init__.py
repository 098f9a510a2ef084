"""Tables, statistics, figures and the report; never imports torch."""

MARGIN = 0.005  # half a point of mAP: what counts as nothing in a test of equivalence (methods: +-0.5 mAP)
