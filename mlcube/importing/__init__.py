"""Cube files written from what other tools use to describe a model."""

from mlcube.importing.draft import Draft, Foreign
from mlcube.importing.kinds import KINDS, convert, kind_of

__all__ = ["KINDS", "Draft", "Foreign", "convert", "kind_of"]
