"""The notebook of the basics, executed by a kernel with this Python and without any settings of the user's."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.servers import processes_in, wait_until

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "pipeline_basics.ipynb"
MAX_BYTES = 500_000
KERNEL = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "test"}
EXECUTE = "from nbclient.cli import main; main()"
PLOTS = 6
# What the outputs have whatever the machine's speed.
EXPECTED = (
    "300 of 300 succeeded",
    "the same in another order: True",
    "'answer': 'Clara'",
    "Paris is the capital of France.",
    "Thieves stole a violin worth 771 pounds",
    "PER  ",
    "Das Haus ist wunderbar.",
    "truncate  succeeded, truncated=True, windows=1",
    "error     failed, truncated=False, windows=None: input_too_long",
    "stride    succeeded, truncated=False, windows=3",
    "guard_blocked  injection: fail",
    "I'm [PERSON]",
    "at most 256; lower it",
    "300 of 301 rows reused",
    "[None, 'empty_text', 'not_text']",
    "200 of 200 at the end",
    "audited 1 batch, 200 jobs: nothing lost, nothing twice",
    "'quantization': 'int8'",
    "'There is water below the kettle.'",
    "row 2: The cake is delicious. → Der Kuchen ist köstlich.",
    "ended with 0",
)


def code_cells(file: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(file.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def outputs(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        yield from cell["outputs"]


def assert_executed(file: Path) -> None:
    """Assert that each cell ran in order, none wrote to stderr, and the outputs are those of a sound run."""
    cells = code_cells(file)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [(output["output_type"], output.get("name")) for output in outputs(cells)]
    assert set(kinds) == {("stream", "stdout"), ("display_data", None)}
    assert sum("image/png" in output.get("data", ()) for output in outputs(cells)) == PLOTS
    text = "".join("".join(output.get("text", ())) for output in outputs(cells))
    assert [words for words in EXPECTED if words not in text] == []


def test_the_committed_notebook_shows_its_outputs_and_no_path_of_a_machine() -> None:
    assert_executed(NOTEBOOK)
    texts = ["".join(output.get("text", ())) for output in outputs(code_cells(NOTEBOOK))]
    assert [text for text in texts if "/" + "home/" in text or "/tmp" in text or str(ROOT) in text] == []
    assert NOTEBOOK.stat().st_size < MAX_BYTES


def test_the_notebook_runs_from_a_bare_environment_and_leaves_no_process(tmp_path: Path) -> None:
    shutil.copy(NOTEBOOK, tmp_path / "basics.ipynb")
    kernel = tmp_path / "jupyter" / "kernels" / "test"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(KERNEL))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHMILL_")}
    environment |= {name: str(tmp_path / "jupyter") for name in ("JUPYTER_DATA_DIR", "IPYTHONDIR", "MPLCONFIGDIR")}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    executed = subprocess.run(
        [sys.executable, "-c", EXECUTE, "basics.ipynb", "--kernel_name=test", "--output=executed", "--timeout=400"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert executed.returncode == 0, executed.stdout + executed.stderr
    assert_executed(tmp_path / "executed.ipynb")
    wait_until(lambda: processes_in(tmp_path) == [], "the last of its processes to end")
