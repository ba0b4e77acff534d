"""The ways to differentiate a forward, one file each."""
