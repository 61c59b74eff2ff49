"""The files of the public archive."""

import hashlib
import io
import zipfile
from collections.abc import Sequence


class Archive:
    """Path -> bytes; ``publish`` adds a zip and its CHECKSUM."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: dict[str, list[int]] = {}
        """Path -> after how many bytes the next answers break off."""
        self.unended: dict[str, int] = {}
        """Path -> how many of the next answers name no length and break off behind their last byte."""

    def publish(self, symbol: str, interval: str, period: str, rows: Sequence[Sequence[str]]) -> str:
        folder = "daily" if period.count("-") == 2 else "monthly"
        name = f"{symbol}-{interval}-{period}"
        path = f"/data/spot/{folder}/klines/{symbol}/{interval}/{name}.zip"
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{name}.csv", "".join(",".join(row) + "\n" for row in rows))
        self.files[path] = content.getvalue()
        self.files[f"{path}.CHECKSUM"] = f"{hashlib.sha256(content.getvalue()).hexdigest()}  {name}.zip\n".encode()
        return path

    def cut(self, path: str) -> int | None:
        """After how many bytes this answer breaks off."""
        cuts = self.cuts.get(path)
        return cuts.pop(0) if cuts else None

    def is_unended(self, path: str) -> bool:
        """Whether the end of this answer never comes."""
        left = self.unended.get(path, 0)
        self.unended[path] = max(0, left - 1)
        return left > 0
