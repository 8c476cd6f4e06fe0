import csv
import json
import os
import stat
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path

import pytest

from models.documents import format_timestamp
from models.errors import UsageError
from producer.results import files, target_file
from producer.results.files import escape_formula
from producer.results.result_row import ResultRow
from producer.results.tabular import TabularLayout
from tests.factories.guard_rows import verdict
from tests.factories.result_rows import FAILED_FIELDS, FINISHED_AT, result_row, vector_row


class TestResultRow:
    def test_its_json_is_stable(self) -> None:
        assert result_row(passthrough={"region": "EU"}).as_dict() == {
            "batch_id": "batch_1",
            "position": 0,
            "custom_id": None,
            "input": {"text": "good"},
            "passthrough": {"region": "EU"},
            "status": "succeeded",
            "output": {"label": "POSITIVE", "score": 0.5},
            "error_code": None,
            "error_message": None,
            "truncated": False,
            "model": "m",
            "revision": "abc",
            "dtype": "float32",
            "device": "cpu",
            "attempts": 1,
            "seq": 1,
            "finished_at": "2026-01-02T12:00:00.250Z",
            "reused_from": None,
            "windows": None,
            "guards": None,
            "original_input": None,
            "source_batch_id": None,
            "source_position": None,
            "adapter": None,
            "adapter_revision": None,
            "input_tokens": None,
            "output_tokens": None,
            "finish_reason": None,
        }

    def test_guards_and_windows_come_before_the_origin(self) -> None:
        verdicts = [verdict("pii", "redact", label="EMAIL", spans=2)]
        row = result_row(windows=3, guards=verdicts, input={"text": "[EMAIL]"}, original_input={"text": "a@b.c"})

        assert list(row.as_dict().items())[-10:-7] == [
            ("windows", 3),
            ("guards", verdicts),
            ("original_input", {"text": "a@b.c"}),
        ]

    def test_a_vector_is_a_list(self) -> None:
        assert vector_row(0, [0.5, -2.0, 0.1]).as_dict()["output"] == [0.5, -2.0, 0.100000001]

    def test_an_error_has_a_code_and_a_message(self) -> None:
        failed = result_row(**FAILED_FIELDS).as_dict()

        assert (failed["error_code"], failed["error_message"]) == ("text_too_long", "too long")

    @pytest.mark.parametrize("ascii_only", [False, True])
    @pytest.mark.parametrize(
        "text", ['"', "\\", "\n\x00\x1b[2J", "é\x9b\u202e\u2028", "😀", "{}", "%s {0}", "", "\x7f"], ids=ascii
    )
    def test_a_line_holds_any_text_in_any_place(self, text: str, ascii_only: bool) -> None:
        documents = {"input": {text: text}, "output": [text, None, 1e-9, -(10**20)], "passthrough": {text: [text]}}
        texts = dict.fromkeys(("custom_id", "error_code", "error_message", "model", "revision", "reused_from"), text)

        line = result_row(**documents, **texts).json_line(ascii_only=ascii_only)

        values = json.loads(line)
        assert {name: values[name] for name in (*documents, *texts)} == {**documents, **texts}
        assert line.index("\n") == len(line) - 1
        assert line.isascii() or not ascii_only

    def test_timestamps_are_in_utc(self) -> None:
        assert format_timestamp(FINISHED_AT.astimezone(timezone(timedelta(hours=2)))) == "2026-01-02T12:00:00.250Z"


class TestEscapeFormula:
    @pytest.mark.parametrize(
        "cell",
        ["=cmd()", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "＝1+1", "＋1", "－1", "＠A", "-", "+1", "+49 30", "-1 "],  # noqa: RUF001
    )
    def test_a_formula_becomes_text(self, cell: str) -> None:
        assert escape_formula(cell) == "'" + cell

    @pytest.mark.parametrize("start", ["=1+1", "+1", "-2+3", "@A", "＝1"])  # noqa: RUF001
    @pytest.mark.parametrize(
        "before",
        [" ", "   ", "\xa0", "\v", "\f", "\t", "\r", "\n", "\u2003", "\u3000", "\ufeff", "\u200b", "\x01", " \t\xa0"],
    )
    def test_a_formula_after_invisible_characters_becomes_text(self, before: str, start: str) -> None:
        assert escape_formula(before + start) == f"'{before}{start}"

    @pytest.mark.parametrize(
        "cell", ["good", "", " ", "a=b", " a=b", "'=1", "-3", " -3", "-4.5", "-1e-5", "1+1", "ä=1"]
    )
    def test_other_cells_are_unchanged(self, cell: str) -> None:
        assert escape_formula(cell) is cell


class TestTargetFile:
    """Where a file is written: with the rights that are due, and through nothing that others have put there."""

    @pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_a_new_file_has_the_mode_of_the_umask(self, tmp_path: Path, umask: int, mode: int) -> None:
        before = os.umask(umask)
        try:
            files.write_jsonl(tmp_path / "new.jsonl", [result_row()])
        finally:
            os.umask(before)

        assert stat.S_IMODE((tmp_path / "new.jsonl").stat().st_mode) == mode

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
    def test_a_replaced_file_keeps_its_mode(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "labels.csv"
        path.touch(0o600)
        path.chmod(mode)

        files.write_csv(path, [result_row()], TabularLayout.from_example(["text"], result_row().output))

        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert path.read_text().startswith("position,")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_a_replaced_file_keeps_its_owner(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.jsonl"
        path.touch()
        os.chown(path, 1234, 4321)

        files.write_jsonl(path, [result_row()])

        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)

    def test_without_the_old_group_our_group_gets_no_rights(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "labels.jsonl"
        path.touch()
        path.chmod(0o660)
        monkeypatch.setattr(target_file, "_group_of", lambda _status: 4321)
        monkeypatch.setattr(os, "fchown", _refuse)

        files.write_jsonl(path, [result_row()])

        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_an_incomplete_file_is_private(self, tmp_path: Path) -> None:
        def rows() -> Iterator[ResultRow]:
            yield result_row()
            [part] = tmp_path.glob(".*.part")
            assert stat.S_IMODE(part.stat().st_mode) == 0o600

        files.write_jsonl(tmp_path / "out.jsonl", rows())

        assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]

    def test_a_link_at_the_temporary_name_is_not_followed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        victim = tmp_path / "victim"
        victim.write_text("mine")
        monkeypatch.setattr(target_file.secrets, "token_hex", lambda _count: "guessed")
        (tmp_path / ".out.jsonl.guessed.part").symlink_to(victim)

        with pytest.raises(UsageError, match="can't be written: File exists"):
            files.write_jsonl(tmp_path / "out.jsonl", [result_row()])

        assert victim.read_text() == "mine"
        assert (tmp_path / ".out.jsonl.guessed.part").is_symlink()

    def test_a_link_as_the_target_stays_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "there.jsonl").touch()
        (tmp_path / "link.jsonl").symlink_to(tmp_path / "there.jsonl")

        files.write_jsonl(tmp_path / "link.jsonl", [result_row()])

        assert (tmp_path / "link.jsonl").is_symlink()
        assert (tmp_path / "there.jsonl").stat().st_size > 0


def _refuse(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


class TestWriting:
    def test_the_header_is_escaped(self, tmp_path: Path) -> None:
        columns = ["=cmd()", " =1", "plain"]

        files.write_csv(
            tmp_path / "out.csv", [], TabularLayout.from_example(["text"], {"label": "a"}, passthrough=columns)
        )

        with (tmp_path / "out.csv").open(newline="") as file:
            assert {"'=cmd()", "' =1", "plain"} <= set(next(csv.reader(file)))

    def test_csv_reads_back(self, tmp_path: Path) -> None:
        path = tmp_path / "out.csv"
        texts = ['a, "b"\nc', "=cmd()", "ä\u2028"]
        rows = [result_row(place, input={"text": text}) for place, text in enumerate(texts)]

        assert files.write_csv(path, rows, TabularLayout.from_example(["text"], rows[0].output)) == 3

        with path.open(newline="", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
        assert [line["text"] for line in read] == [texts[0], "'=cmd()", texts[2]]
        assert [line["score"] for line in read] == ["0.5"] * 3

    def test_jsonl_reads_back(self, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"

        assert files.write_jsonl(path, [result_row(0), result_row(1)]) == 2

        assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [
            result_row(0).as_dict(),
            result_row(1).as_dict(),
        ]

    def test_a_failed_export_keeps_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"
        path.write_text("before")

        def rows() -> Iterator[ResultRow]:
            yield result_row()
            assert path.read_text() == "before"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            files.write_jsonl(path, rows())

        assert path.read_text() == "before"
        assert list(tmp_path.iterdir()) == [path]

    def test_writing_to_a_link_replaces_its_target(self, tmp_path: Path) -> None:
        target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
        target.touch()
        link.symlink_to(target)

        files.write_jsonl(link, [result_row()])

        assert link.is_symlink()
        assert target.read_text()

    def test_the_target_is_checked(self, tmp_path: Path) -> None:
        assert target_file.check_target(tmp_path / "a.CSV") == "csv"
        assert target_file.check_target(tmp_path / "a.ndjson") == "jsonl"
        (tmp_path / "folder.csv").mkdir()
        device = tmp_path / "device.csv"
        device.symlink_to("/dev/null")
        for path, words in (
            (tmp_path / "a.txt", "call it .jsonl, .csv, .parquet or .npy"),
            (tmp_path / "folder.csv", "is not a regular file"),
            (device, "is not a regular file"),
            (tmp_path / "nowhere" / "a.csv", "there is no folder"),
        ):
            with pytest.raises(UsageError, match=words):
                target_file.check_target(path)
