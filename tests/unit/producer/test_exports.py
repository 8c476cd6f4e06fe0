import csv
import json
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path

import pytest

from models.errors import UsageError
from producer import exports
from producer.exports import guarded
from producer.results import ResultRow, iso
from producer.sheet import Sheet
from tests.results_made import FAILED, NOON, row


class TestResultRow:
    def test_its_json_is_stable(self) -> None:
        assert row(meta={"region": "EU"}).as_dict() == {
            "batch_id": "batch_1", "position": 0, "custom_id": None, "input": {"text": "good"},
            "meta": {"region": "EU"}, "status": "succeeded", "output": {"label": "POSITIVE", "score": 0.5},
            "error": None, "truncated": False, "model": "m",
            "revision": "abc", "dtype": "float32", "device": "cpu", "attempts": 1, "seq": 1,
            "finished_at": "2026-01-02T12:00:00.250Z", "reused_from": None,
        }  # fmt: skip

    def test_an_error_has_a_code_and_a_sentence(self) -> None:
        assert row(**FAILED).as_dict()["error"] == {"code": "text_too_long", "message": "too long"}

    def test_moments_are_in_utc(self) -> None:
        assert iso(NOON.astimezone(timezone(timedelta(hours=2)))) == "2026-01-02T12:00:00.250Z"


class TestGuard:
    @pytest.mark.parametrize(
        "cell",
        ["=cmd()", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "-", "=1"],  # noqa: RUF001
    )
    def test_a_formula_becomes_text(self, cell: str) -> None:
        assert guarded(cell) == "'" + cell

    @pytest.mark.parametrize("cell", ["good", "", "a=b", "'=1", -3, -0.5, 1e-9, None, True, "-3", "+4.5"])
    def test_all_else_stays(self, cell: object) -> None:
        assert guarded(cell) is cell


class TestFiles:
    def test_csv_reads_back(self, tmp_path: Path) -> None:
        path = tmp_path / "out.csv"
        texts = ['a, "b"\nc', "=cmd()", "ä\u2028"]
        rows = [row(place, input={"text": text}) for place, text in enumerate(texts)]

        assert exports.write_csv(path, rows, Sheet.of(["text"], rows[0].output)) == 3

        with path.open(newline="", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
        assert [line["text"] for line in read] == [texts[0], "'=cmd()", texts[2]]
        assert [line["score"] for line in read] == ["0.5"] * 3

    def test_jsonl_reads_back(self, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"

        assert exports.write_jsonl(path, [row(0), row(1)]) == 2

        assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [
            row(0).as_dict(),
            row(1).as_dict(),
        ]

    def test_what_was_there_stays_unless_all_is_written(self, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"
        path.write_text("before")

        def rows() -> Iterator[ResultRow]:
            yield row()
            assert path.read_text() == "before"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            exports.write_jsonl(path, rows())

        assert path.read_text() == "before"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_link_is_written_through(self, tmp_path: Path) -> None:
        target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
        target.touch()
        link.symlink_to(target)

        exports.write_jsonl(link, [row()])

        assert link.is_symlink()
        assert target.read_text()

    def test_the_target_is_checked(self, tmp_path: Path) -> None:
        assert exports.check_target(tmp_path / "a.CSV") == "csv"
        assert exports.check_target(tmp_path / "a.ndjson") == "jsonl"
        (tmp_path / "folder.csv").mkdir()
        device = tmp_path / "device.csv"
        device.symlink_to("/dev/null")
        for path, words in (
            (tmp_path / "a.txt", "call it .jsonl, .csv or .parquet"),
            (tmp_path / "folder.csv", "is not a regular file"),
            (device, "is not a regular file"),
            (tmp_path / "nowhere" / "a.csv", "there is no folder"),
        ):
            with pytest.raises(UsageError, match=words):
                exports.check_target(path)
