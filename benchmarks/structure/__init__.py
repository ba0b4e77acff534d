"""How much of the checker has to be read: its figures with their bounds, and its constants with their reasons."""
