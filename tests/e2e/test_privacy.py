"""What a running system leaves readable: in its logs, in its processes' arguments, and by the modes of its files."""

import json
import os
import stat
from pathlib import Path

import psutil

from tests.deployment import temporary_deployment

SECRET, TEXT = "canary-7f3a", "heron-51c2"
PIPELINE = "sample-zero-shot-classification"
VECTORS, RANKING = "sample-feature-extraction", "sample-text-ranking"


def test_nothing_of_a_batch_is_in_logs_and_all_files_are_its_users(tmp_path: Path, postgresql_url: str) -> None:
    lines = [json.dumps({"text": f"{TEXT} {place}"}) for place in range(20)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    pairs = [json.dumps({"query": f"{TEXT} {place}", "texts": [f"{TEXT} {SECRET}", SECRET]}) for place in range(20)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(pairs))
    labels = json.dumps([f"{SECRET} a", f"{SECRET} b"])
    settings = {"log_format": "console", "log_level": "debug", "database_url": f"{postgresql_url}?password={SECRET}"}
    before = os.umask(0)
    try:
        with temporary_deployment(tmp_path, **settings) as deployment:
            up = deployment.start("up", "--pipelines", f"{PIPELINE},{VECTORS},{RANKING}", HF_TOKEN=f"hf_{SECRET}")
            submitted = deployment.run(
                "submit", "in.jsonl", "--pipeline", PIPELINE, "--param", f"candidate_labels={labels}", "--wait"
            )
            embedded = deployment.run("submit", "in.jsonl", "--pipeline", VECTORS, "--wait")
            ranked = deployment.run("submit", "pairs.jsonl", "--pipeline", RANKING, "--wait")
            family = psutil.Process(up.pid).children(recursive=True)
            arguments = [" ".join(process.cmdline()) for process in family]
            made = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").rglob("*")}
            log = deployment.log
    finally:
        os.umask(before)

    outputs = []
    for command in (submitted, embedded, ranked):
        assert command.returncode == 0, command.stderr
        outputs += [command.stdout.decode(), command.stderr.decode()]
    assert "slices.claimed" in log
    assert "sha256:" in log
    for written in (log, *outputs, *arguments):
        assert SECRET not in written
        assert TEXT not in written
    assert len(arguments) == 3
    assert {path.name for path in made} >= {"up.lock", "valkey", "valkey.log", "valkey.conf", "valkey.sock"}
    assert {path.name: oct(mode) for path, mode in made.items() if mode & 0o077} == {}
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
