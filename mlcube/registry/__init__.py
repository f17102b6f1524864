"""A client of OCI registries: what is read is verified, what is sent is sent once, and faults are outwaited."""

from mlcube.registry.client import Registry
from mlcube.registry.limits import Limits
from mlcube.registry.repository import Repository
from mlcube.registry.suggesting import suggesting

__all__ = ["Limits", "Registry", "Repository", "suggesting"]
