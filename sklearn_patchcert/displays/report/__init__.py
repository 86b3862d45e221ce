"""The report: one self-contained page about a classifier and its certificates."""
