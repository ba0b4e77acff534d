"""What to say of a gradient that is wrong: why, and lines that reproduce it."""
