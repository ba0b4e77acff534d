"""Makes a page and a Markdown summary from the JSON of one run of the benchmarks."""
