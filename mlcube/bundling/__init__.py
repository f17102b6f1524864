"""Bundles: one file, an OCI image layout in a tar, that holds a cube with everything it needs."""
