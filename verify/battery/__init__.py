"""Everything a layer owes its users, checked by name."""
