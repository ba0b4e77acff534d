"""The corpus of verdicts: the frozen results of some 2,800 checks, which show every change of the checker.

`verdicts.tsv` has one line for each check. `python -m benchmarks.corpus` runs every check again and prints each
difference. The checks use only the public `gradcheck`, so they survive a rebuild of the checker.
"""
