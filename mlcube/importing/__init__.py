"""Cube files written from what other tools use to describe a model."""

from mlcube.importing.draft import Draft, Foreign, held
from mlcube.importing.kinds import KINDS, convert, kind_of

__all__ = ["KINDS", "Draft", "Foreign", "convert", "held", "kind_of"]
