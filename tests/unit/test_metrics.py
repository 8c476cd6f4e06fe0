"""metrics.md, the dashboard and the alert rules name the metrics that exist, with the labels that they have."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.factories.metric_families import metric_families, server_registry, worker_registry
from worker.metrics import job_codes

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGE = (REFERENCE / "metrics.md").read_text("utf-8")
ROW = re.compile(r"^\| `(batchmill_\w+)` \| (counter|gauge|histogram) \| ([^|]*)\|", re.MULTILINE)
METRIC = re.compile(r"batchmill_\w+")
SELECTOR = re.compile(r"batchmill_\w+\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")
OF_PROMETHEUS = {"instance", "job", "le"}

Labels = Mapping[str, tuple[str, frozenset[str]]]  # type and labels, by name


def exported() -> Labels:
    families = metric_families(worker_registry()) | metric_families(server_registry())
    return {
        name: (family.type, frozenset(label for item in family.samples for label in item.labels) - {"le"})
        for name, family in families.items()
    }


def family_of(name: str, known: Labels) -> str:
    return name if name in known else re.sub("_(bucket|sum|count)$", "", name)


def dashboard_queries() -> Iterator[str]:
    for panel in json.loads((REFERENCE / "metrics" / "grafana.json").read_text("utf-8"))["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def alert_rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((REFERENCE / "metrics" / "alerts.yml").read_text("utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


QUERIES = [*dashboard_queries(), *(rule["expr"] for rule in alert_rules())]


def test_the_page_lists_every_metric_with_its_type_and_labels() -> None:
    documented = {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(PAGE)}

    assert documented == exported()


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_and_labels_that_exist(query: str) -> None:
    known = exported()
    names = {family_of(name, known) for name in METRIC.findall(query)}
    labels = {label for name in names for label in known[name][1]} | OF_PROMETHEUS
    selected = {label for selector in SELECTOR.findall(query) for label in re.findall(r"(\w+)[=!]", selector)}
    grouped = {label for grouping in GROUPING.findall(query) for label in re.findall(r"\w+", grouping)}

    assert names
    assert selected | grouped <= labels
    assert query.count("(") == query.count(")")
    assert "[1m]" not in query, "one scrape per minute would give no rate"
    for name in METRIC.findall(query):
        kind = known[family_of(name, known)][0]
        assert (kind == "histogram") == (name not in known), "a histogram by its buckets, others by their name"


def test_the_dashboard_shows_every_metric() -> None:
    known = exported()
    shown = {family_of(name, known) for query in QUERIES for name in METRIC.findall(query)}

    assert {name for name in known.keys() - shown if not name.startswith("batchmill_schedule_")} == set()


def test_each_alert_says_what_is_wrong_and_of_what() -> None:
    for rule in alert_rules():
        summary = rule["annotations"]["summary"]
        named = set(re.findall(r"\$labels\.(\w+)", summary))
        grouped = set(re.findall(r"\w+", " ".join(GROUPING.findall(rule["expr"]))))
        assert summary
        assert named
        assert named <= grouped | {"instance"}


def test_the_codes_are_those_of_failed_jobs() -> None:
    section = (REFERENCE / "output.md").read_text("utf-8").partition("## Codes of failed jobs")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]

    assert {code for row in rows for code in re.findall(r"`(\w+)`", row)} == job_codes.JOB_CODES
    assert job_codes.label_for("no_mask") == "no_mask"
    assert job_codes.label_for("canary-4711") == "other"


def test_only_the_families_need_the_client_in_a_worker() -> None:
    importing = {
        path.name
        for path in (ROOT / "worker").rglob("*.py")
        if re.search(r"^(import|from) prometheus_client", path.read_text("utf-8"), re.MULTILINE)
    }

    assert importing == {"families.py"}
    users = [path for path in (ROOT / "worker").rglob("*.py") if "worker.metrics.families" in path.read_text()]
    assert [path.name for path in users] == ["listener.py"]
    assert "    from worker.metrics.families import" in users[0].read_text("utf-8"), "inside the function"
