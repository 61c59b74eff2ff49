"""Folders of YAML files as validated objects, read again when a file changes: targets and templates.

Owns reading and freshness; it knows nothing of what the objects mean. At the start a wrong file ends the process with
a message that names file and field; later a wrong file is logged and its last good version stays in force.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import structlog
import yaml
from pydantic import BaseModel, ValidationError

from streamforge_utils.errors import ConfigurationError

CHECK_EVERY_S = 1.0
"""Least time between two looks at the files: a changed file is seen at most so late."""

_log = structlog.get_logger(component="catalogue")


class Named(Protocol):
    """What a catalogue keeps."""

    @property
    def name(self) -> str:
        """Unique in the catalogue."""
        ...


N = TypeVar("N", bound=Named)
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Read(Generic[N]):
    stamp: tuple[int, int]
    value: N | None


class Catalogue(Generic[N]):
    """The objects of all files that ``pattern`` finds in ``folders``, by name.

    Raises:
        ConfigurationError: a folder is missing, a file is wrong, or two files have one name.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        pattern: str,
        read: Callable[[Path], N],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders, self._pattern, self._read_file, self._clock = folders, pattern, read, clock
        for folder in folders:
            if not folder.is_dir():
                raise ConfigurationError(f"{folder} is not a folder: it should hold {pattern}")
        self._files: dict[Path, _Read[N]] = {path: _Read(_stamp(path), read(path)) for path in self._paths()}
        self._by_name = _by_name(self._files)
        if clashes := _clashes(self._files):
            raise ConfigurationError(clashes)
        self._checked = clock()

    def all(self) -> Mapping[str, N]:
        """Every object by name, as the files are now (or were at most ``CHECK_EVERY_S`` ago)."""
        if self._clock() - self._checked >= CHECK_EVERY_S:
            self._checked = self._clock()
            self._refresh()
        return self._by_name

    def get(self, name: str) -> N | None:
        """The object of that name."""
        return self.all().get(name)

    def _paths(self) -> Iterable[Path]:
        return sorted(path for folder in self._folders for path in folder.glob(self._pattern))

    def _refresh(self) -> None:
        files = {path: self._fresh(path) for path in self._paths()}
        if files == self._files:
            return
        if clashes := _clashes(files):
            _log.error("catalogue_not_reloaded", reason=clashes)
            return
        self._files, self._by_name = files, _by_name(files)
        _log.info("catalogue_reloaded", pattern=self._pattern, names=sorted(self._by_name))

    def _fresh(self, path: Path) -> _Read[N]:
        known = self._files.get(path)
        stamp = _stamp(path)
        if known is not None and known.stamp == stamp:
            return known
        try:
            return _Read(stamp, self._read_file(path))
        except ConfigurationError as error:
            _log.error("catalogue_file_refused", file=str(path), reason=error.message)
            return _Read(stamp, known.value if known else None)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)


def _by_name(files: Mapping[Path, _Read[N]]) -> dict[str, N]:
    return {read.value.name: read.value for read in files.values() if read.value is not None}


def _clashes(files: Mapping[Path, _Read[N]]) -> str | None:
    seen: dict[str, Path] = {}
    for path, read in files.items():
        if read.value is None:
            continue
        if (other := seen.setdefault(read.value.name, path)) != path:
            return f"{other} and {path} have the same name {read.value.name!r}: rename one of them"
    return None


def read_manifest(path: Path, model: type[M], **given: Any) -> M:
    """One file as its model; ``given`` are fields that the file cannot say itself.

    Raises:
        ConfigurationError: not readable, not YAML, or fields that are wrong; it names the file and each field.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected a mapping, found {type(content).__name__}")
    try:
        return model.model_validate(content | given)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError(f"{path}: {faults}") from None
