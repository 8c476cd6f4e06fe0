"""Documents of a server as the rows that they describe."""

from producer.remote import documents
from tests.factories.result_rows import result_row


def test_a_document_of_a_row_is_that_row() -> None:
    row = result_row(custom_id="a", input_tokens=7, output_tokens=3, finish_reason="length")

    assert documents.result_row(row.as_dict(), "text-generation").as_dict() == row.as_dict()


def test_an_older_server_sends_no_tokens() -> None:
    document = result_row(input_tokens=7, output_tokens=3, finish_reason="length").as_dict()
    for name in ("input_tokens", "output_tokens", "finish_reason"):
        del document[name]

    row = documents.result_row(document, "text-generation")

    assert (row.input_tokens, row.output_tokens, row.finish_reason) == (None, None, None)
    assert row.output == {"label": "POSITIVE", "score": 0.5}
