"""The Hypothesis profiles: `--hypothesis-profile quick`, `ci` (the default) or `nightly`."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

from verify.profiles import EXAMPLES

pytest_plugins = ["pytester"]

# Naive loops are slow by design, and machines are shared: time is no ground to fail an example.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)

settings.register_profile("quick", _COMMON, max_examples=EXAMPLES["quick"], derandomize=True, database=None)
settings.register_profile("ci", _COMMON, max_examples=EXAMPLES["ci"], derandomize=True, database=None)
settings.register_profile("nightly", _COMMON, max_examples=EXAMPLES["nightly"])
settings.load_profile("ci")

# `benchmarks` is no part of what is installed; last, so that what is installed comes first.
sys.path.append(str(Path(__file__).parents[2]))
