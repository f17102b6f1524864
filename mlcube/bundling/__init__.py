"""Bundles: one file, an OCI image layout in a tar, that holds a cube with everything it needs."""

from mlcube.bundling.opening import Opened, Provided, opened, provide

__all__ = ["Opened", "Provided", "opened", "provide"]
