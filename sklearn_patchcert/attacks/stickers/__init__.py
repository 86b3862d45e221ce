"""The attack with a sticker: where it goes, what is on it, and how far all other patches move."""
