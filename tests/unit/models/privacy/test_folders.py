"""Names of models without the operator's folders."""

import pytest

from models.privacy.folders import last_part


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/srv/models/bert", "bert"),
        ("C:\\models\\bert", "bert"),
        ("distilbert/base", "distilbert/base"),
        ("bert", "bert"),
        ("", ""),
    ],
)
def test_a_folder_is_named_by_its_last_part(name: str, shown: str) -> None:
    assert last_part(name) == shown
