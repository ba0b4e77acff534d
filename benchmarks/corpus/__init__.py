"""The corpus of verdicts: what gradcheck says of some two thousand layers, frozen, so that a change of it is seen.

`verdicts.tsv` holds one line for each check. `python -m benchmarks.corpus` runs every check again and prints
each difference. The checks use the public `gradcheck` alone, so they outlive a rebuild of the checker.
"""
