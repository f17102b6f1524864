"""A folder as layers of an artifact: what belongs to it, in packs and large files, the same bytes wherever it lies."""

from mlcube.packing.contents import Entry, contents
from mlcube.packing.ignoring import DEFAULTS, IGNORE_FILE, SECRETS, Rules, read_rules
from mlcube.packing.layers import Layer, layers

__all__ = ["DEFAULTS", "IGNORE_FILE", "SECRETS", "Entry", "Layer", "Rules", "contents", "layers", "read_rules"]
