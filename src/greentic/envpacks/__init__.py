"""Env-packs: the contract of each capability slot, and the registry that finds what fills it."""
