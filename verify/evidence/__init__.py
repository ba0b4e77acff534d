"""What speaks for the checker: which check sees each bug of the museum, and what other checkers see of them."""
