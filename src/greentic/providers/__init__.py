"""Built-in env-packs, one folder per provider; found through entry points, as anybody else's are."""
