"""Image tars: their layers, and what names them. Read by the standard library, as any reader of images would."""

import hashlib
import json
import platform
import tarfile

import pytest

from streamforge_local.failures import StackError
from streamforge_local.kubernetes import images
from streamforge_local.kubernetes.images import Config, Layer, write_image


def members(tar):
    with tarfile.open(tar) as read:
        return {info.name: info for info in read}


@pytest.fixture
def layer(tmp_path):
    return Layer(tmp_path / "layer.tar")


def test_everything_belongs_to_root_and_is_readable_by_all(tmp_path, layer):
    secret, program = tmp_path / "secret", tmp_path / "program"
    secret.write_text("x")
    secret.chmod(0o600)
    program.write_text("#!")
    program.chmod(0o700)
    with layer:
        layer.add(secret, "/etc/a/secret")
        layer.add(program, "/bin/program")
    found = members(layer.path)
    assert {name: oct(info.mode) for name, info in found.items() if info.isfile()} == {
        "etc/a/secret": "0o644",
        "bin/program": "0o755",
    }
    assert {(info.uid, info.gid, info.uname, info.gname) for info in found.values()} == {(0, 0, "root", "root")}


def test_folders_come_before_what_is_in_them_and_once(tmp_path, layer):
    with layer:
        layer.write("/a/b/one", b"1")
        layer.write("/a/b/two", b"2")
        layer.folder("/a/b", mode=0o700)
    with tarfile.open(layer.path) as read:
        names = read.getnames()
    assert names == [".", "a", "a/b", "a/b/one", "a/b/two"]
    assert members(layer.path)["a/b"].mode == 0o755


def test_the_first_of_a_name_stays(layer):
    with layer:
        layer.write("/a", b"first")
        layer.write("/a", b"second")
        layer.link("/a", "b")
    with tarfile.open(layer.path) as read:
        assert read.extractfile("a").read() == b"first"
        assert read.getnames().count("a") == 1


def test_a_link_of_this_machine_becomes_the_file_it_leads_to(tmp_path, layer):
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("file")
    with layer:
        layer.add(tmp_path / "link", "/link")
        layer.link("/real", "link")
    found = members(layer.path)
    assert found["link"].isfile()
    assert (found["real"].issym(), found["real"].linkname) == (True, "link")


def test_a_tree_is_taken_with_the_seconds_of_its_files(tmp_path, layer):
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_text("x")
    (tmp_path / "tree/left").write_text("x")
    with layer:
        layer.tree(tmp_path / "tree", "/data", is_wanted=lambda path: path.name != "left")
    found = members(layer.path)
    assert sorted(found) == [".", "data", "data/sub", "data/sub/file"]
    assert found["data/sub/file"].mtime == int((tmp_path / "tree/sub/file").stat().st_mtime)


def test_an_image_names_its_layers_and_how_it_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    layers = [tmp_path / "one.tar", tmp_path / "two.tar"]
    for number, path in enumerate(layers):
        with Layer(path) as made:
            made.write("/file", bytes([number]))
    config = Config(entrypoint=["/pause"], env={"A": "1"}, user="10001:10001")
    image = write_image(tmp_path / "image.tar", ["a/b:1", "a/c:1"], layers, config)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in layers]
    with tarfile.open(image) as read:
        (manifest,) = json.load(read.extractfile("manifest.json"))
        document = json.load(read.extractfile(manifest["Config"]))
        kept = [read.extractfile(name).read() for name in manifest["Layers"]]
    assert manifest["RepoTags"] == ["a/b:1", "a/c:1"]
    assert kept == [path.read_bytes() for path in layers]
    assert document["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]}
    assert (document["architecture"], document["os"], len(document["history"])) == ("arm64", "linux", 2)
    assert document["config"]["Entrypoint"] == ["/pause"]
    assert (document["config"]["Env"], document["config"]["User"]) == (["A=1"], "10001:10001")


def test_a_machine_without_a_word_in_images_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "m68k")
    with pytest.raises(StackError, match="no images for m68k; there are x86_64, aarch64"):
        write_image(tmp_path / "image.tar", ["a:1"], [], Config())
    assert images.ARCHITECTURES["x86_64"] == "amd64"
