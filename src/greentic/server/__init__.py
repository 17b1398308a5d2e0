"""The operator store server: the routes of the contract A8 over a store (reference 02)."""
