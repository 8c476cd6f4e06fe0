"""Read requests: what is stored of them, and the words of the door in their messages."""

import pytest

from models.errors import UnreadableSource, UsageError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.uploads.intake.read_request import ReadRequest

PIPELINE = Catalogue.load(Settings())["sample-sentiment-analysis"]


@pytest.mark.parametrize(
    ("is_from_page", "field", "identity", "kept"),
    [
        (False, '"input_columns": {"text": "COLUMN"}', '"id_column": "COLUMN"', '"passthrough": ["COLUMN"]'),
        (True, "choose the column for text in the form", "choose another column for the ids", "choose other columns"),
    ],
)
def test_messages_have_the_words_of_the_door(is_from_page: bool, field: str, identity: str, kept: str) -> None:
    requests = [
        (ReadRequest(is_from_page=is_from_page), field),
        (ReadRequest(is_from_page=is_from_page, input_columns={"text": "body"}, id_column="sku"), identity),
        (ReadRequest(is_from_page=is_from_page, input_columns={"text": "body"}, passthrough=("stars",)), kept),
    ]

    for request, words in requests:
        with pytest.raises(UnreadableSource) as caught:
            request.columns(PIPELINE).check_header("the body", ["body"])
        assert words in str(caught.value)


def test_a_selection_without_a_batch_names_the_field_of_the_body() -> None:
    with pytest.raises(UsageError, match='"from_batch": "BATCH_ID"'):
        _ = ReadRequest(labels=("NEGATIVE",)).selection


def test_what_is_stored_is_read_again() -> None:
    request = ReadRequest(file_format="csv", passthrough=("stars",), is_from_page=True)

    document = request.as_document()

    assert document == {"file_format": "csv", "passthrough": ["stars"], "is_from_page": True}
    assert ReadRequest.from_document(document) == request
    assert ReadRequest().as_document() == {}
