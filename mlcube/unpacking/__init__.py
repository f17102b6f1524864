"""Puts what archives hold into a new folder, and nothing anywhere else, whoever made them."""

from mlcube.unpacking.archives import bounded, unpack_tar, unpack_zip
from mlcube.unpacking.folder import Placed, Unpacking, remove

__all__ = ["Placed", "Unpacking", "bounded", "remove", "unpack_tar", "unpack_zip"]
