"""Environments in a database: SQLite on one machine, PostgreSQL for several servers (docs/decisions/0018)."""
