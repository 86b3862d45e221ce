"""Certificates against stickers by masks: where they are, what is asked, what follows from it."""
