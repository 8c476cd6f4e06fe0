"""The documents are built strictly: a broken link, a missing page or a malformed docstring is an error."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTENSIONS = ROOT / "docs" / "_extensions"
LOST_DASHES = re.compile("[\N{EN DASH}\N{EM DASH}][a-z]")  # an option whose two dashes became one


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXTENSIONS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(900)
def test_the_documents_are_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees")]

    done = subprocess.run(
        [*command, "docs", str(tmp_path / "html")], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    command_line = (tmp_path / "html" / "reference" / "command-line.html").read_text("utf-8")
    python_api = (tmp_path / "html" / "reference" / "python-api.html").read_text("utf-8")
    assert "--on-invalid" in command_line
    dashes = [page.name for page in (tmp_path / "html").rglob("*.html") if LOST_DASHES.search(page.read_text("utf-8"))]
    assert dashes == []
    assert "<h4>keys ls<" in command_line
    assert "batchmill.Client.submit" in python_api
    assert "idempotency_key_in_use" in python_api
    assert "the command" in python_api.partition("nothing_to_retry")[2][:120]
    architecture = (tmp_path / "html" / "explanation" / "architecture.html").read_text("utf-8")
    assert "The way of one job" in architecture


def test_parameters_of_a_docstring_become_a_list() -> None:
    docstring = [
        "Do it.",
        "",
        "rows: how many; None = all,",
        "    at most `a*b`.",
        "to, after: *both*",
        "",
        "Raises it.",
    ]

    assert load("plain_docstrings").convert(docstring) == [
        "Do it.",
        "",
        "",
        ":Parameters:",
        "   * **rows**: how many; None = all,",
        "     at most `a*b`.",
        "   * **to**, **after**: \\*both\\*",
        "",
        "",
        "Raises it.",
    ]


@pytest.mark.parametrize(
    ("link", "built"),
    [
        ("[bulk.md](../how-to/bulk.md)", "[Bulk data in and out](../how-to/bulk.md)"),
        ("[the rows](../how-to/bulk.md#over-http)", "[the rows](../how-to/bulk.md#over-http)"),
        ("[examples/nightly/](../../examples/nightly/)", "`examples/nightly`"),
        ("[a table](../../benchmarks/README.md#guards)", "[a table](../explanation/benchmarks.md#guards)"),
        ("![a picture](../images/flow.svg)", "![a picture](../images/flow.svg)"),
        ("[elsewhere](https://example.com/a.md)", "[elsewhere](https://example.com/a.md)"),
    ],
)
def test_links_stay_among_the_pages(link: str, built: str) -> None:
    files = load("repository_files")

    assert files.rewrite(link, "docs/reference", "docs/reference/output.md") == built
