"""The command line: `python -m verify`, installed as `gradcert`."""
