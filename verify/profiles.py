"""How many cases each layer is tried on, said once: for the tests' Hypothesis profiles and the command line."""

EXAMPLES = {"quick": 25, "ci": 100, "nightly": 10_000}
