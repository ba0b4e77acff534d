"""The command line: `python -m verify`, also installed as `gradcert`."""
