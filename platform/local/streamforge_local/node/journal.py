"""What the node must know after its own death: every Job's spec and state, in one SQLite file.

A change is recorded before it is acted on. The file holds the secrets of Jobs that have not ended, so it is readable by
its owner only. A commit survives the death of the process, not a power cut (then no worker survives either).
"""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streamforge_local.node.job import Job, JobSpec, RestartPolicy

VERSION = 1


class JournalError(Exception):
    """The journal cannot be read or written; the message names the file and says what to do."""


class Journal:
    """The node's own record of its Jobs. Used from one thread."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            JournalError: It is not ours, damaged or not writable.
        """
        self._path = path
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"cannot open the journal {path}: {error}; remove it to begin without Jobs") from error

    def add(self, job: Job) -> None:
        """Record a new Job, its secrets included."""
        secrets = {name: value.get_secret_value() for name, value in job.spec.secret_env.items()}
        spec = job.spec.model_dump(mode="json", exclude={"secret_env"})
        row = (job.spec.name, json.dumps(spec), json.dumps(secrets), json.dumps(job.state()))
        self._write("INSERT INTO jobs (name, spec, secrets, state) VALUES (?, ?, ?, ?)", row)

    def save(self, job: Job) -> None:
        """Record a Job's state; the secrets of one that has ended are dropped."""
        keep = "'{}'" if job.ended else "secrets"
        self._write(
            f"UPDATE jobs SET state = ?, secrets = {keep} WHERE name = ?",  # noqa: S608 - one of two constants
            (json.dumps(job.state()), job.spec.name),
        )

    def remove(self, name: str) -> None:
        """Forget a Job."""
        self._write("DELETE FROM jobs WHERE name = ?", (name,))

    def load(self, policy: RestartPolicy) -> Iterator[Job]:
        """Every Job as it was recorded last, in the order of creation.

        Raises:
            JournalError: The file is damaged.
        """
        try:
            for spec, secrets, state in self._db.execute("SELECT spec, secrets, state FROM jobs ORDER BY rowid"):
                content: dict[str, Any] = json.loads(spec) | {"secret_env": json.loads(secrets)}
                yield Job.restore(JobSpec.model_validate(content), policy, json.loads(state))
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            raise JournalError(f"the journal {self._path} is damaged ({error}); remove it to begin anew") from error

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.execute("PRAGMA cache_size = -256")  # KiB: rows are read at the start alone
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"it was written by another version ({version}, this one is {VERSION})")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS jobs ("
            "name TEXT PRIMARY KEY, spec TEXT NOT NULL, secrets TEXT NOT NULL, state TEXT NOT NULL) STRICT"
        )
        self._db.execute(f"PRAGMA user_version = {VERSION}")

    def _write(self, statement: str, values: tuple[str, ...]) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise JournalError(f"cannot write the journal {self._path}: {error}") from error
