"""Who may talk to the embedded broker: a certificate authority, two users, their rights. Secrets live in 0600 files.

Two trusts, neither of them a password in an argument: clients log in with SCRAM-SHA-512 over TLS; the broker's own
connection to its controller, over which the rights are granted too, is mutual TLS with the broker's certificate.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ADMIN = "admin"
CLIENT = "user-streamforge"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The files of one broker's security."""

    folder: Path

    @property
    def ca(self) -> Path:
        """Certificate of the authority, what clients trust."""
        return self.folder / "ca.pem"

    @property
    def broker(self) -> Path:
        """The broker's key and certificate."""
        return self.folder / "broker.pem"

    def password(self, user: str) -> str:
        """The user's password."""
        return (self.folder / f"{user}.password").read_text()


def write_secret(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def make_credentials(folder: Path, hosts: Sequence[str] = ()) -> Credentials:
    """Certificates and passwords, made when they are not there; certificates also when they are not for these hosts.

    ``hosts`` are IP addresses beside loopback by which clients know the broker.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Credentials(folder)
    for user in (ADMIN, CLIENT):
        if not (path := folder / f"{user}.password").exists():
            write_secret(path, secrets.token_urlsafe(24))
    named = folder / "hosts"
    present = named.read_text().split() if named.exists() else []
    if not made.broker.exists() or not set(hosts) <= set(present):
        # Imported when it is needed: a stack without log-in shall not wait for it at each start.
        from streamforge_local.kafka.certificates import issue  # noqa: PLC0415

        authority, broker = issue(hosts)
        made.ca.write_text(authority)
        write_secret(made.broker, broker)
        named.write_text(" ".join(hosts))
    return made
