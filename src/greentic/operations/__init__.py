"""The use cases: where the store, the bundles, the env-packs and their routers meet. Never names a provider."""
