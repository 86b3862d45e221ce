"""Two ways to the same tokens and radii: compare with all tokens, or search among them."""
