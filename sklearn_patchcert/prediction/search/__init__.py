"""What the search for token assignments takes: their cheapest changes, their order, and its time."""
