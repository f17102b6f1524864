"""Publishes a cube: its layers, configuration and manifest, its image beside it, and what is told of it."""

from mlcube.publishing.destination import Destination
from mlcube.publishing.images import FoundImage, find_image, push_image
from mlcube.publishing.preparing import Content, Publication, compose, read_content
from mlcube.publishing.sending import Former, Sent, former, missing, send
from mlcube.publishing.source import Source, find_source

__all__ = [
    "Content",
    "Destination",
    "Former",
    "FoundImage",
    "Publication",
    "Sent",
    "Source",
    "compose",
    "find_image",
    "find_source",
    "former",
    "missing",
    "push_image",
    "read_content",
    "send",
]
