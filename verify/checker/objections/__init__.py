"""Why a claim outside its interval may not be called wrong: one function for each doubt.

Each returns a reason, or None. It raises StructureError where the reference is the wrong one for this function.
Beside each stands a test of the right gradient that made it necessary, and of a wrong one that it must not excuse.
"""
