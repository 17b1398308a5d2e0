"""A small correct deployer of the suite's own, on a provider of its own: what the zoo's mutants are made from.

The workers are real processes and the router is the real data path on a real socket, in this process. A deployer that
passes the suite here is accused of nothing; each mutant differs from it in one thing.
"""
