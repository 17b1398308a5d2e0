"""The driving test: one suite that every deployer takes. It looks at the provider's world and sends real requests."""
