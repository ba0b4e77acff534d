"""Measures the checker itself: what it misses, what it wrongly accuses, what it costs. `tox -e calibrate`."""
