"""A dry run of an uploaded file reads its start, and forecasts the whole."""

import gzip
from pathlib import Path

import pytest
from sqlalchemy import text

from models.db import Database
from models.errors import MissingSource, SourceTooLarge, UnreadableSource
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.dry_run import file_trial, forecast
from producer.dry_run.file_trial import FileTrial
from producer.dry_run.forecast import PastBatch
from producer.submission.request import SubmitRequest
from producer.uploads import files
from producer.uploads.files import FileView, NewFile
from producer.uploads.intake.read_request import ReadRequest
from producer.uploads.storage.store import open_store
from tests.factories.patience import be_patient

SAMPLE = "sample-sentiment-analysis"


class Trial:
    """Uploads a file and tries it."""

    def __init__(self, database: Database, url: str, home: Path) -> None:
        self.database = database
        self.settings = Settings(database_url=url, home=home)
        self.store = open_store(self.settings)

    def upload(self, content: bytes) -> FileView:
        with self.store.create() as writer:
            writer.write(content)
            stored = writer.commit()
        return files.save_file(self.database, self.settings, NewFile("a.csv", stored=stored))

    def run(self, content: bytes, row_count: int | None = None) -> FileTrial:
        return self.try_file(self.upload(content), row_count)

    def try_file(self, file: FileView, row_count: int | None = None) -> FileTrial:
        request = SubmitRequest.create(Catalogue.load(self.settings)[SAMPLE])
        read_request = ReadRequest(file_format="csv")
        return file_trial.try_file(self.database, self.settings, request, file, read_request, row_count)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@pytest.fixture
def trial(database: Database, database_url: str, tmp_path: Path) -> Trial:
    return Trial(database, database_url, tmp_path / "home")


def test_a_small_file_is_read_whole(trial: Trial) -> None:
    shown = trial.run(b"id,text\n1,good\n1,again\n2,\n")

    assert (shown.is_whole, shown.row_count, shown.report.jobs) == (True, 3, 1)
    assert dict(shown.report.invalid) == {"duplicate_id": 1, "empty_text": 1}
    assert shown.forecast is None
    with trial.database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM batches")) == 0


def test_the_start_of_a_large_file_stands_for_it(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_trial, "MAX_ROWS", 100)
    monkeypatch.setattr(forecast, "recent_batches", lambda *_: [PastBatch(1_000, 4_000.0 * 4, 10.0)])

    shown = trial.run(b"text\n" + b"good\n" * 1_000, row_count=1_000)
    unknown = trial.run(b"text\n" + b"good\n" * 1_000)

    assert (shown.is_whole, shown.row_count, shown.report.rows) == (False, 1_000, 100)
    assert shown.forecast is not None
    assert unknown.forecast is not None
    assert (shown.forecast.jobs, unknown.forecast.jobs) == (1_000, 100)
    assert unknown.row_count is None


@pytest.mark.parametrize(("limit", "value"), [("MAX_CHARACTERS", 1_000), ("MAX_SECONDS", -1.0)])
def test_characters_and_seconds_are_bounded(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(file_trial, limit, value)

    shown = trial.run(b"text\n" + b"good\n" * 1_000)

    assert not shown.is_whole
    assert 1 <= shown.report.rows <= 251


def test_what_unpacks_to_many_blank_lines_ends(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_trial, "MAX_BYTES", 10_000)

    shown = trial.run(gzip.compress(b"text\ngood\n" + b"\n" * 1_000_000 + b"bad\n"))

    assert (shown.is_whole, shown.report.rows) == (False, 1)


def test_a_source_over_the_operators_limit_is_refused(trial: Trial) -> None:
    trial.settings = trial.settings.model_copy(update={"max_source_bytes": 10})

    with pytest.raises(SourceTooLarge, match="more than 10 bytes"):
        trial.run(b"text\ngood\nbad\n")


def test_a_wrong_file_says_why(trial: Trial) -> None:
    with pytest.raises(UnreadableSource, match="has no column 'text'"):
        trial.run(b"review\ngood\n")
    file = trial.upload(b"text\ngood\n")
    trial.store.delete(file.location or "")
    with pytest.raises(MissingSource):
        trial.try_file(file)
