import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from models.errors import UsageError
from models.states import Outcome
from producer import exports
from producer.exports import Sheet, guarded
from producer.results import ResultRow, iso

NOON = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)


def row(position: int = 0, **fields: Any) -> ResultRow:
    usual: dict[str, Any] = {
        "batch_id": "batch_1", "position": position, "custom_id": None, "input": {"text": "good"},
        "status": Outcome.SUCCEEDED, "output": {"label": "POSITIVE", "score": 0.5}, "error_code": None,
        "error_message": None, "truncated": False, "model": "m", "revision": "abc", "dtype": "float32",
        "device": "cpu", "attempts": 1, "seq": position + 1, "finished_at": NOON,
    }  # fmt: skip
    return ResultRow(**usual | fields)


FAILED: dict[str, Any] = {
    "status": Outcome.FAILED,
    "output": None,
    "error_code": "text_too_long",
    "error_message": "too long",
}


class TestResultRow:
    def test_its_json_is_stable(self) -> None:
        assert row(meta={"region": "EU"}).as_dict() == {
            "batch_id": "batch_1", "position": 0, "custom_id": None, "input": {"text": "good"},
            "meta": {"region": "EU"}, "status": "succeeded", "output": {"label": "POSITIVE", "score": 0.5},
            "error": None, "truncated": False, "model": "m", "revision": "abc", "dtype": "float32", "device": "cpu", "attempts": 1, "seq": 1,
            "finished_at": "2026-01-02T12:00:00.250Z",
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


class TestSheet:
    def test_a_flat_output_gets_columns(self) -> None:
        sheet = Sheet.of(["text"], {"label": "x", "score": 1.0})

        assert sheet.header[:6] == ["position", "custom_id", "text", "status", "label", "score"]
        assert sheet.cells(row())[:6] == [0, None, "good", "succeeded", "POSITIVE", 0.5]
        assert len(sheet.cells(row())) == len(sheet.header)

    def test_a_failed_row_has_its_error_and_no_output(self) -> None:
        sheet = Sheet.of(["text"], {"label": "x", "score": 1.0})

        cells = dict(zip(sheet.header, sheet.cells(row(**FAILED)), strict=True))

        assert (cells["label"], cells["score"]) == (None, None)
        assert (cells["error_code"], cells["error_message"]) == ("text_too_long", "too long")

    @pytest.mark.parametrize("output", [[{"label": "a"}], {"tokens": [1]}, "text"])
    def test_any_other_output_is_one_column_of_json(self, output: Any) -> None:
        sheet = Sheet.of(["text"], output)

        cells = dict(zip(sheet.header, sheet.cells(row(output=output)), strict=True))

        assert json.loads(cells["output"]) == output

    def test_without_any_output_there_is_that_column_too(self) -> None:
        assert Sheet.of(["text"], None).cells(row(**FAILED))[4] is None

    def test_names_do_not_clash(self) -> None:
        header = Sheet.of(["text"], {"text": "x", "model": "y", "new": "z"}).header

        assert len(set(header)) == len(header)
        assert header[4:7] == ["output_text", "output_model", "new"]

    def test_an_output_that_does_not_fit_is_not_cut(self) -> None:
        with pytest.raises(UsageError, match=r"position 7 has other fields than the first; write \.jsonl"):
            Sheet.of(["text"], {"label": "x"}).cells(row(7))


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
            (tmp_path / "a.txt", "call it .jsonl or .csv"),
            (tmp_path / "folder.csv", "is not a regular file"),
            (device, "is not a regular file"),
            (tmp_path / "nowhere" / "a.csv", "there is no folder"),
        ):
            with pytest.raises(UsageError, match=words):
                exports.check_target(path)
