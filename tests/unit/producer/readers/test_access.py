"""Access: what sources may name, through whichever spelling, link or race."""

import os
import socket
from pathlib import Path

import pytest

from models.errors import MissingSource, UnreadableSource
from models.settings import Settings
from producer.readers import access, files
from producer.readers.access import Access


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that sources may be read from, beside one that they may not."""
    for name in ("data", "elsewhere"):
        (tmp_path / name / "deeper").mkdir(parents=True)
        (tmp_path / name / "a.jsonl").write_text(f'"{name}"\n')
    return tmp_path / "data"


def read(said: object, allowed: Access) -> bytes:
    content = b""
    for file in files.find_files([str(said)], "jsonl", allowed):
        with file.open_stream() as stream:
            content += stream.read()
    return content


def under(*roots: Path) -> Access:
    return Access.from_settings(Settings(source_roots=roots))


class TestRoots:
    def test_unset_admit_any_file(self, root: Path) -> None:
        for folder in (root, root.parent / "elsewhere"):
            assert read(folder / "a.jsonl", Access()) == f'"{folder.name}"\n'.encode()

    @pytest.mark.parametrize(
        "said", ["a.jsonl", "*.jsonl", "./a.jsonl", "deeper/../a.jsonl", "**/a.jsonl", "[a].jsonl"]
    )
    def test_admit_what_is_under_them(self, root: Path, said: str) -> None:
        assert read(f"{root}/{said}", under(root)) == b'"data"\n'
        assert read(f"FILE://{root}/{said}", under(root.parent / "none", root)) == b'"data"\n'

    @pytest.mark.parametrize(
        "said",
        [
            "../elsewhere/a.jsonl",
            "deeper/../../elsewhere/a.jsonl",
            "../elsewhere/*.jsonl",
            "../*/a.jsonl",
            "../elsewhere/nowhere.jsonl",
            "../**/a.jsonl",
            "../data-of-others/a.jsonl",
            "..",
            "/etc/passwd",
        ],
    )
    @pytest.mark.parametrize("scheme", ["", "file://", "FILE://", "local://"])
    def test_refuse_what_is_not(self, root: Path, scheme: str, said: str) -> None:
        with pytest.raises(UnreadableSource, match="is under none of the folders that sources may be read from"):
            read(f"{scheme}{root}/{said}" if not said.startswith("/") else scheme + said, under(root))

    def test_say_nothing_of_what_is_elsewhere(self, root: Path) -> None:
        def reason(name: str) -> str:
            with pytest.raises(UnreadableSource) as caught:
                read(root.parent / "elsewhere" / name, under(root))
            return str(caught.value).replace(name, "")

        assert reason("a.jsonl") == reason("no.jsonl")

    def test_refuse_links_that_lead_out(self, root: Path) -> None:
        (root / "link.jsonl").symlink_to(root.parent / "elsewhere" / "a.jsonl")
        (root / "folder").symlink_to(root.parent / "elsewhere")

        for said in (
            "link.jsonl",
            "link*.jsonl",
            "folder/a.jsonl",
            "folder/*.jsonl",
            "f*/a.jsonl",
            "*/../../elsewhere/a.jsonl",
        ):
            with pytest.raises(UnreadableSource, match="is under none of the folders"):
                read(root / said, under(root))

    def test_follow_links_that_stay(self, root: Path, tmp_path: Path) -> None:
        (root / "link.jsonl").symlink_to(root / "a.jsonl")
        (tmp_path / "rooted").symlink_to(root)

        assert read(root / "link.jsonl", under(root)) == b'"data"\n'
        assert read(tmp_path / "rooted" / "a.jsonl", under(tmp_path / "rooted")) == b'"data"\n'

    def test_are_asked_of_what_was_opened(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The path is swapped for a link after it was looked at."""
        [file] = files.find_files([str(root / "a.jsonl")], "jsonl", under(root))
        (root / "a.jsonl").unlink()
        (root / "a.jsonl").symlink_to(root.parent / "elsewhere" / "a.jsonl")

        with pytest.raises(UnreadableSource, match="is under none of the folders"), file.open_stream():
            pass
        monkeypatch.setattr(access, "PROC_FD", Path("/nowhere"))  # as on other systems than Linux
        with pytest.raises(UnreadableSource, match="is under none of the folders"), file.open_stream():
            pass

    def test_that_are_none_admit_nothing(self, root: Path) -> None:
        with pytest.raises(UnreadableSource, match=r"\(source_roots: none\)"):
            read(root / "a.jsonl", under())


class TestKindsOfFiles:
    @pytest.mark.parametrize("scheme", ["", "file://", "FILE://", "local://"])
    def test_that_are_no_regular_ones_never_wait(self, root: Path, scheme: str) -> None:
        os.mkfifo(root / "fifo")
        (root / "device").symlink_to("/dev/zero")
        (root / "terminal").symlink_to("/dev/tty")
        (root / "linked").symlink_to(root / "fifo")
        with socket.socket(socket.AF_UNIX) as bound:
            folder = Path.cwd()
            os.chdir(root)  # a socket's path may not be long
            bound.bind("socket")
            os.chdir(folder)
            for name in ("fifo", "device", "terminal", "linked", "socket", "deeper"):
                for allowed in (Access(), under(root)):
                    with pytest.raises(UnreadableSource):
                        read(f"{scheme}{root}/{name}", allowed)

    def test_that_are_too_many_are_refused(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "MAX_FILES", 3)
        for number in range(4):
            (root / f"many-{number}.jsonl").touch()

        with pytest.raises(UnreadableSource, match="stands for more than 3 files"):
            read(root / "many-*.jsonl", Access())


URLS = [
    "s3://bucket/a.jsonl",
    "S3://bucket/a.jsonl",
    "memory://a.jsonl",
    "http://169.254.169.254/latest",
    "ssh://host/a",
    "https://127.0.0.1:8080/a.jsonl",
    "reference://a",
    "data://a",
    "ftp://host/a",
    "zip://a.jsonl",
    "://a",
    "x y://a",
    "hf://datasets/a",
    "github://a:b@c/d",
    "asynclocal:///etc/passwd",
    "jupyter://h/a",
    "dask://h/a",
]

CHAINS = [
    "simplecache::s3://bucket/a.jsonl",
    "filecache::file:///etc/passwd",
    "blockcache::memory://a",
    "zip://a.jsonl::file:///tmp/a.zip",
    "tar://a::s3://b/a.tar",
    "reference://::file:///tmp/refs.json",
    "s3://bucket/a::b",
    "file:///tmp/a::memory://b",
    "memory://a::",
    "dir::file:///tmp",
]


class TestUrls:
    @pytest.mark.parametrize("url", URLS)
    def test_are_refused_unless_their_scheme_is_allowed(self, url: str) -> None:
        for allowed in (Access(), Access(schemes=frozenset({"gs"})), under(Path("/"))):
            with pytest.raises(UnreadableSource, match="is a URL that sources may not name"):
                read(url, allowed)

    @pytest.mark.parametrize("url", CHAINS)
    def test_that_are_chained_are_refused_whatever_is_allowed(self, url: str) -> None:
        schemes = ["s3", "memory", "file", "zip", "tar", "simplecache", "filecache", "blockcache", "reference", "dir"]
        with pytest.raises(UnreadableSource, match="leads through several file systems"):
            read(url, Access.from_settings(Settings(source_schemes=tuple(schemes))))

    @pytest.mark.parametrize(
        "url", ["file://a.jsonl", "file://localhost/etc/passwd", "local://~/a", "file://", "FILE://."]
    )
    def test_of_files_begin_at_the_root(self, url: str) -> None:
        with pytest.raises(UnreadableSource, match="names no file of this machine"):
            read(url, Access())

    @pytest.mark.parametrize("said", ["file:/etc/passwd", "file:a", "s3:/bucket/a"])
    def test_that_are_none_are_paths(self, said: str) -> None:
        with pytest.raises(MissingSource, match="there is no file"):
            read(said, Access())

    @pytest.mark.parametrize("setting", [("memory",), ("MEMORY",), ("memory://",)])
    def test_of_an_allowed_scheme_are_read(self, setting: tuple[str, ...]) -> None:
        import fsspec

        fsspec.filesystem("memory").pipe_file("/allowed/a.jsonl", b'"far"\n')

        assert read("memory://allowed/*.jsonl", Access.from_settings(Settings(source_schemes=setting))) == b'"far"\n'
