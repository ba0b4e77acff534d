"""From the JSON of one run of the benchmarks: a page, a Markdown summary, and the comparison with a stored run."""
