"""Access rules hold for every spelling, link and race."""

import os
import socket
from pathlib import Path

import pytest

from models.errors import MissingSource, UnreadableSource
from models.settings import Settings
from producer.readers.files import access, source_files
from producer.readers.files.access import Access


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that sources may be read from, next to one that they may not."""
    for name in ("data", "elsewhere"):
        (tmp_path / name / "deeper").mkdir(parents=True)
        (tmp_path / name / "a.jsonl").write_text(f'"{name}"\n')
    return tmp_path / "data"


def read(path_or_url: object, access_rules: Access) -> bytes:
    content = b""
    for file in source_files.find_files([str(path_or_url)], "jsonl", access_rules):
        with file.open_stream() as stream:
            content += stream.read()
    return content


def rules_for(*roots: Path) -> Access:
    return Access.from_settings(Settings(source_roots=roots))


class TestRoots:
    def test_without_roots_any_file_is_read(self, root: Path) -> None:
        for folder in (root, root.parent / "elsewhere"):
            assert read(folder / "a.jsonl", Access()) == f'"{folder.name}"\n'.encode()

    @pytest.mark.parametrize(
        "name", ["a.jsonl", "*.jsonl", "./a.jsonl", "deeper/../a.jsonl", "**/a.jsonl", "[a].jsonl"]
    )
    def test_files_under_the_roots_are_read(self, root: Path, name: str) -> None:
        assert read(f"{root}/{name}", rules_for(root)) == b'"data"\n'
        assert read(f"FILE://{root}/{name}", rules_for(root.parent / "none", root)) == b'"data"\n'

    @pytest.mark.parametrize(
        "name",
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
    def test_other_files_are_rejected(self, root: Path, scheme: str, name: str) -> None:
        with pytest.raises(UnreadableSource, match="is not in a folder that sources may be read from"):
            read(f"{scheme}{root}/{name}" if not name.startswith("/") else scheme + name, rules_for(root))

    def test_a_rejection_does_not_show_whether_the_file_exists(self, root: Path) -> None:
        def reason(name: str) -> str:
            with pytest.raises(UnreadableSource) as raised:
                read(root.parent / "elsewhere" / name, rules_for(root))
            return str(raised.value).replace(name, "")

        assert reason("a.jsonl") == reason("no.jsonl")

    def test_links_out_of_the_roots_are_rejected(self, root: Path) -> None:
        (root / "link.jsonl").symlink_to(root.parent / "elsewhere" / "a.jsonl")
        (root / "folder").symlink_to(root.parent / "elsewhere")

        for name in (
            "link.jsonl",
            "link*.jsonl",
            "folder/a.jsonl",
            "folder/*.jsonl",
            "f*/a.jsonl",
            "*/../../elsewhere/a.jsonl",
        ):
            with pytest.raises(UnreadableSource, match="is not in a folder"):
                read(root / name, rules_for(root))

    def test_links_within_the_roots_are_followed(self, root: Path, tmp_path: Path) -> None:
        (root / "link.jsonl").symlink_to(root / "a.jsonl")
        (tmp_path / "rooted").symlink_to(root)

        assert read(root / "link.jsonl", rules_for(root)) == b'"data"\n'
        assert read(tmp_path / "rooted" / "a.jsonl", rules_for(tmp_path / "rooted")) == b'"data"\n'

    def test_the_open_file_is_checked(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The path is replaced by a link after it was checked."""
        [file] = source_files.find_files([str(root / "a.jsonl")], "jsonl", rules_for(root))
        (root / "a.jsonl").unlink()
        (root / "a.jsonl").symlink_to(root.parent / "elsewhere" / "a.jsonl")

        with pytest.raises(UnreadableSource, match="is not in a folder"), file.open_stream():
            pass
        monkeypatch.setattr(access, "PROC_FD", Path("/nowhere"))  # as on other systems than Linux
        with pytest.raises(UnreadableSource, match="is not in a folder"), file.open_stream():
            pass

    def test_an_empty_list_of_roots_allows_no_file(self, root: Path) -> None:
        with pytest.raises(UnreadableSource, match=r"\(source_roots: none\)"):
            read(root / "a.jsonl", rules_for())


class TestFiles:
    @pytest.mark.parametrize("scheme", ["", "file://", "FILE://", "local://"])
    def test_special_files_are_rejected_without_waiting(self, root: Path, scheme: str) -> None:
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
                for access_rules in (Access(), rules_for(root)):
                    with pytest.raises(UnreadableSource):
                        read(f"{scheme}{root}/{name}", access_rules)

    def test_a_pattern_with_too_many_matches_is_rejected(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source_files, "MAX_FILES", 3)
        for number in range(4):
            (root / f"many-{number}.jsonl").touch()

        with pytest.raises(UnreadableSource, match="matches more than 3 files"):
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
    def test_a_scheme_that_is_not_allowed_is_rejected(self, url: str) -> None:
        for access_rules in (Access(), Access(schemes=frozenset({"gs"})), rules_for(Path("/"))):
            with pytest.raises(UnreadableSource, match="is a URL that sources may not name"):
                read(url, access_rules)

    def test_the_error_has_the_setting_that_allows_it(self) -> None:
        with pytest.raises(UnreadableSource, match=r'source_schemes = \["gs", "hf"\] in batchmill.toml'):
            read("hf://datasets/user/name/a.jsonl", Access(schemes=frozenset({"gs"})))

    @pytest.mark.parametrize("url", CHAINS)
    def test_chained_urls_are_always_rejected(self, url: str) -> None:
        schemes = ("s3", "memory", "file", "zip", "tar", "simplecache", "filecache", "blockcache", "reference", "dir")
        access_rules = Access.from_settings(Settings(source_schemes=schemes))

        with pytest.raises(UnreadableSource, match="leads through several file systems"):
            read(url, access_rules)

    @pytest.mark.parametrize(
        "url", ["file://a.jsonl", "file://localhost/etc/passwd", "local://~/a", "file://", "FILE://."]
    )
    def test_file_urls_must_be_absolute(self, url: str) -> None:
        with pytest.raises(UnreadableSource, match="names no file of this machine"):
            read(url, Access())

    @pytest.mark.parametrize("name", ["file:/etc/passwd", "file:a", "s3:/bucket/a"])
    def test_text_without_two_slashes_is_a_path(self, name: str) -> None:
        with pytest.raises(MissingSource, match="there is no file"):
            read(name, Access())

    @pytest.mark.parametrize("setting", [("memory",), ("MEMORY",), ("memory://",)])
    def test_urls_of_an_allowed_scheme_are_read(self, setting: tuple[str, ...]) -> None:
        import fsspec

        fsspec.filesystem("memory").pipe_file("/allowed/a.jsonl", b'"far"\n')

        rules = Access.from_settings(Settings(source_schemes=setting))
        for url in ("memory://allowed/*.jsonl", "Memory://allowed/a.jsonl"):
            assert read(url, rules) == b'"far"\n'
