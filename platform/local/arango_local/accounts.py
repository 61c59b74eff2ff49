"""Who may talk to this server: one user, HTTP basic authentication, the password stored as a salted scrypt hash.

Must never keep, log or show a password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Any, Final

from arango_local.catalog import Catalog
from arango_local.errors import FORBIDDEN, ArangoError

_SETTING: Final = "user"
_SCRYPT: Final = {"n": 1 << 14, "r": 8, "p": 1}


class Accounts:
    """The one user of the server; `password` replaces what an earlier start stored."""

    def __init__(self, catalog: Catalog, user: str, password: str) -> None:
        stored = catalog.setting(_SETTING)
        if stored is None or stored["name"] != user or not _matches(stored, password):
            salt = secrets.token_hex(16)
            stored = {"name": user, "salt": salt, "hash": _hash(password, salt)}
            catalog.store_setting(_SETTING, stored)
        self.user = user
        self._stored = stored
        # scrypt takes 50 ms on purpose; a header that was right once is known by a keyed hash of it.
        self._secret = secrets.token_bytes(32)
        self._known: bytes | None = None

    def authenticate(self, header: str) -> str:
        """Returns the user of an `Authorization` header.

        Raises:
            ArangoError: 401 with errorNum 11 when it names nobody.
        """
        digest = hmac.digest(self._secret, header.encode(), "sha256")
        if self._known is not None and hmac.compare_digest(self._known, digest):
            return self.user
        name, password = _basic(header)
        if name != self.user or not _matches(self._stored, password):
            raise _denied()
        self._known = digest
        return self.user


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise _denied()
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise _denied() from None
    return name, password


def _denied() -> ArangoError:
    return ArangoError(401, FORBIDDEN, "not authorized to execute this request")


def _hash(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=salt.encode(), **_SCRYPT).hex()


def _matches(stored: dict[str, Any], password: str) -> bool:
    return hmac.compare_digest(stored["hash"], _hash(password, stored["salt"]))
