"""A pipeline names its logits processors, which count among its settings, and never imports them."""

import sys
from pathlib import Path
from typing import Any

import pytest

from models import operator_code
from models.errors import SettingsError
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.settings import Settings

ENTRY = {"name": "stories", "task": "text-generation", "model": "bundled:text-generation"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"logits_processors": ["no digits"]}, "names no object; write it as package.module:object"),
        ({"logits_processors": ["package.module"]}, "names no object"),
        ({"logits_processors": ["a:b"] * 17}, "at most 16"),
        ({"task": "ner", "logits_processors": ["a:b"]}, "ner generates no text, so logits_processors have no effect"),
    ],
)
def test_what_has_no_effect_is_refused(fields: dict[str, Any], problem: str) -> None:
    entry = {key: value for key, value in ENTRY.items() if key != "name"} | fields

    with pytest.raises(SettingsError, match=problem):
        Catalogue.load(Settings(pipelines={"stories": entry}))


def test_each_reference_and_version_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "batchmill.toml").write_text("")
    module = tmp_path / "module_of_this_test.py"
    module.write_text("raise SystemExit('it must not be imported')")
    monkeypatch.chdir(tmp_path)
    plain, processed = (
        Pipeline(**ENTRY, logits_processors=names) for names in ((), ("module_of_this_test:no_digits",))
    )
    first = processed.settings_hash

    module.write_text("no_digits = 1")

    assert len({plain.settings_hash, first, processed.settings_hash}) == 3
    assert "module_of_this_test" not in sys.modules
    assert operator_code.code_version("missing_package.module:object") is None
