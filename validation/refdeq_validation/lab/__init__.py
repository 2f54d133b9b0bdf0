"""A plain implementation of the protocol, with its legal variants: what mutants and canaries are made of."""
