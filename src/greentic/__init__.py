"""Greentic: the deployment platform for digital workers."""
