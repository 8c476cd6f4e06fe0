"""The rewriting of imports by which the wheel becomes one package."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel() -> Any:
    spec = importlib.util.spec_from_file_location("wheel", ROOT / "build_hooks" / "wheel.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from models import db\n", "from batchmill.models import db\n"),
        (
            "from worker.engine.engine import (\n    Engine,\n)\n",
            "from batchmill.worker.engine.engine import (\n    Engine,\n)\n",
        ),
        (
            "def f():\n    from producer.client import Client\n",
            "def f():\n    from batchmill.producer.client import Client\n",
        ),
        ("from models_of_mine import x\nimport os\n", "from models_of_mine import x\nimport os\n"),
        ('"""from models import db"""\n', '"""from models import db"""\n'),
    ],
)
def test_imports_of_ours_go_through_the_package(wheel: Any, before: str, after: str) -> None:
    assert wheel.rewrite(before) == after


def test_an_import_that_binds_another_name_there_is_refused(wheel: Any) -> None:
    with pytest.raises(ValueError, match="line 2: import our packages by"):
        wheel.rewrite("import os\nimport models.db\n")


def test_all_modules_can_be_rewritten(wheel: Any, tmp_path: Path) -> None:
    wheel.lay_out(ROOT, tmp_path / "batchmill")

    assert (tmp_path / "batchmill" / "models" / "migrations" / "env.py").exists()
    for path in (tmp_path / "batchmill").rglob("*.py"):
        compile(path.read_text("utf-8"), str(path), "exec")
