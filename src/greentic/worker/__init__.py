"""Run one revision of a bundle: start it, watch it, start it again. Knows nothing of traffic."""
