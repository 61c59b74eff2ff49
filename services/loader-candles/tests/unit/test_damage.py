import os
import zipfile

import pytest

from loader_candles.files_source import FilesSource
from loader_candles.local_files import LocalFiles
from streamforge_utils import codec
from streamforge_utils.errors import ConfigurationError


@pytest.fixture
def source(series, tmp_path):
    def make(pattern):
        return FilesSource("file", LocalFiles(f"file://{pattern}", [tmp_path], series), series)

    return make


def _turned(start, end):
    """Turns every bit of the bytes from ``start`` to ``end``, given as offsets of the length."""

    def damage(data):
        for index in range(start(len(data)), end(len(data))):
            data[index] ^= 0xFF

    return damage


def _named(name):
    """Another name of the member in the directory; the one in front of its data stays."""

    def damage(data):
        start = data.rindex(b"\xc3\xa9.csv")
        data[start : start + len(name)] = name

    return damage


DAMAGES = {
    "deflated data": (zipfile.ZIP_DEFLATED, _turned(lambda size: size // 2, lambda size: size // 2 + 1)),
    "lzma data": (zipfile.ZIP_LZMA, _turned(lambda _: 60, lambda _: 400)),
    "lzma options": (zipfile.ZIP_LZMA, _turned(lambda _: 40, lambda _: 46)),
    "name that is no text": (zipfile.ZIP_STORED, _named(b"\xff")),
    "no name": (zipfile.ZIP_STORED, _named(b"\0\0")),
}


@pytest.mark.parametrize(("method", "damage"), DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_zip_is_told(method, damage, source, rows, drain, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("\u00e9.csv", "".join(",".join(row) + "\n" for row in rows(1440)))
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"a\.zip, line \d+: cannot be read") as failure:
        await drain(source(path))
    assert failure.value.code == "bad-input"


@pytest.mark.parametrize("pattern", ["*.csv", "*"])
async def test_a_file_name_that_no_text_can_carry_is_told(pattern, source, write, rows, drain, tmp_path):
    os.rename(write("a.csv", rows(3)), os.fsencode(tmp_path) + b"/\xff.csv")
    with pytest.raises(ConfigurationError, match="the name is not UTF-8") as failure:
        await drain(source(tmp_path / pattern))
    assert failure.value.code == "bad-input"
    assert codec.decode(codec.encode(failure.value.message)).startswith(rf"{tmp_path}/\xff.csv: ")


async def test_a_file_name_in_another_script_is_fine(source, write, rows, drain, values, tmp_path):
    write("\u043a\u043e\u0442.csv", rows(3))
    deliveries = await drain(source(tmp_path / "*.csv"))
    assert len(values(deliveries)) == 3
    assert codec.decode(codec.encode(deliveries[-1].position)) == deliveries[-1].position


@pytest.mark.parametrize("trades", ["9" * 25, "9" * 400, str(2**63), "-1"])
@pytest.mark.parametrize("further", ["1", "nan"])
async def test_a_number_of_trades_that_is_none_is_told(trades, further, source, write, rows, drain, tmp_path):
    content = rows(20)
    content[8][8], content[8][9] = trades, further
    with pytest.raises(ConfigurationError) as failure:
        await drain(source(write("a.csv", content)))
    assert failure.value.code == "bad-input"
    assert f"{tmp_path}/a.csv, line 9: trades is not from 0 to" in failure.value.message
    assert len(failure.value.message) < 400


async def test_the_most_trades_can_be_written_on(source, write, rows, drain, values):
    content = rows(1)
    content[0][8] = str(2**63 - 1)
    (value,) = values(await drain(source(write("a.csv", content))))
    assert codec.decode(codec.encode(value))["trades"] == 2**63 - 1
