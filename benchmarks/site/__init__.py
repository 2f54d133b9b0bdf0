"""The site of benchmark results: ``python -m benchmarks.site OUT``, from the root of a clone."""
