"""Surrogate images in the formats of other libraries, and the cards that describe them."""
