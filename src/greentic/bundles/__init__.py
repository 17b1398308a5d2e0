"""Build, inspect, verify and safely unpack bundles."""
