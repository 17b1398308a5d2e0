"""The checks, a module per profile."""
