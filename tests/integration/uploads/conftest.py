"""Fixtures for uploads: a file store, files in it, and an intake."""

import io
from pathlib import Path

import pytest

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.submission.request import SubmitRequest
from producer.uploads import files
from producer.uploads.files import FileView, NewFile
from producer.uploads.intake.intake import Intake
from producer.uploads.intake.opening import OpenedBatch, open_batch
from producer.uploads.intake.read_request import ReadRequest
from tests.factories.patience import CHUNKS, be_patient

PIPELINE = "sentiment-analysis"


class Uploads:
    """What a server does with uploads, without a server."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self.catalogue = Catalogue.load(settings)
        self.intake = Intake(database, settings, self.catalogue)

    def upload(self, content: bytes | str, **fields: object) -> FileView:
        """Store a file."""
        with self.intake.store.create() as writer:
            writer.write(content.encode() if isinstance(content, str) else content)
            stored = writer.commit()
        new = NewFile("a.jsonl", stored=stored, **fields)  # type: ignore[arg-type]
        return files.save_file(self.database, self.settings, new)

    def open(
        self, file: FileView | None, read_request: ReadRequest | None = None, *, here: bool = False, **fields: object
    ) -> OpenedBatch:
        """Open a batch over a file."""
        request = SubmitRequest.create(self.catalogue[PIPELINE], **fields)  # type: ignore[arg-type]
        return open_batch(self.database, self.settings, request, read_request or ReadRequest(), file, is_read_here=here)

    def other_machine(self, home: Path) -> Intake:
        """An intake with a file store of its own."""
        settings = self.settings.model_copy(update={"home": home})
        return Intake(self.database, settings, self.catalogue)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a chunk end where it is full, however long its rows take."""
    be_patient(monkeypatch, CHUNKS)


@pytest.fixture
def uploads(database: Database, batchmill_home: Path) -> Uploads:
    """Return the uploads of a server on both databases."""
    del batchmill_home
    return Uploads(database, Settings.load())


def lines(count: int, start: int = 0) -> str:
    """JSON lines with ids."""
    text = io.StringIO()
    for number in range(start, start + count):
        text.write(f'{{"custom_id": "row-{number}", "text": "text {number}"}}\n')
    return text.getvalue()
