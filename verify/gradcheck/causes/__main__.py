"""`python -m verify.gradcheck.causes`: print docs/causes.md."""

from verify.gradcheck.causes import cause_page

print(cause_page(), end="")
