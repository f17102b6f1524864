"""Publishes a cube to a registry."""
