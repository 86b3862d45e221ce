"""Patches around tokens: the first tokens, the nearest tokens chunk by chunk, and their sums."""
