"""The search for token assignments: their cheapest changes, their order, images, and time."""
