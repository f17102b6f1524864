"""Whose certificates are trusted: those that the environment names, else the system's."""

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from mlcube.errors import Unreachable

if TYPE_CHECKING:
    import ssl

__all__ = ["trusted"]

_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


def trusted() -> "ssl.SSLContext":
    """What a TLS connection is made with."""
    import ssl

    named = next(((name, path) for name in _VARIABLES if (path := os.environ.get(name))), None)
    if named is None:
        return _of_the_system()
    name, path = named
    directory = os.path.isdir(path)
    try:
        return ssl.create_default_context(cafile=None if directory else path, capath=path if directory else None)
    except OSError as error:
        raise Unreachable(
            f"the certificates in `{path}` cannot be read: {(error.strerror or str(error)).lower()}",
            hint=f"`{name}` names that file",
        ) from None


def _of_the_system() -> "ssl.SSLContext":
    import ssl

    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not paths.capath:  # a Python that was built elsewhere
        with suppress(ImportError):
            import certifi

            context.load_verify_locations(certifi.where())
    return context
