"""The hold-out: automatic mutants of the reference, which nobody wrote with the judge in mind."""
