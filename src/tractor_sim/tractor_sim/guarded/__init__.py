"""Worlds that are driven with the guard, and what is touched in them."""
