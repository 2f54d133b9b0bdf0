"""Sums in exact rational arithmetic: every legal order of a small sum, and cases made by hand for the judge."""
