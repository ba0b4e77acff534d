"""`python -m verify.diagnosis.causes`: print docs/causes.md."""

from verify.diagnosis.causes import cause_page

print(cause_page(), end="")
