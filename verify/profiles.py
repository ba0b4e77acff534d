"""The number of cases for each layer, for the Hypothesis profiles of the tests and for the command line."""

EXAMPLES = {"quick": 25, "ci": 100, "oracle": 2_000, "nightly": 10_000}
