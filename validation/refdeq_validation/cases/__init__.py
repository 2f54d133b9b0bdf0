"""The conformance cases: immutable, content-addressed, each with a witness that it can fail."""
