"""Rooms of the attacks: the tokens that an attacker can pay for, and compiled loops over them."""
