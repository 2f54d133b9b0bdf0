"""Realistic kernel bugs as named switches with documented diffs, and what kills them."""
