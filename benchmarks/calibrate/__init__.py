"""Measures the checker: missed errors, false alarms, time and memory. `tox -e calibrate` runs it."""
