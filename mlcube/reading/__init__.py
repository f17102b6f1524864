"""From files and overrides to a Cube."""

from mlcube.reading.files import FILE_NAME, locate, read_cube, read_layers

__all__ = ["FILE_NAME", "locate", "read_cube", "read_layers"]
