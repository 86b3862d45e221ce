"""A classifier as an attack sees it: a torch module from images to logits."""
