"""Proof of the judge: its own mutants, the transcripts that must catch them, and attempts at a false green."""
