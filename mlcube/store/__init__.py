"""What was brought from elsewhere: kept by digest, shared between projects, verified when it is used."""

from mlcube.store.content import Store
from mlcube.store.kept import Kept
from mlcube.store.listing import Entry

__all__ = ["Entry", "Kept", "Store"]
