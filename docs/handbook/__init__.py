"""What the handbook derives: a page for each layer, the reference, the diagrams. Only `extension` needs Sphinx."""
