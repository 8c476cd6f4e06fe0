"""The parts that open pages are sent are those of the pages."""

import re

import pytest

from models.db import Database
from producer.server.pages.live import parts
from producer.server.pages.live.page_parts import PARTS
from producer.tenants.principal import OPERATOR, Principal, Scope
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import app_over, client_over
from tests.fake_worker import write_results

READER = Principal("default", frozenset({Scope.READ}))


@pytest.mark.parametrize("kind", ["overview", "batch"])
@pytest.mark.parametrize("principal", [OPERATOR, READER], ids=["operator", "reader"])
def test_each_part_can_be_rendered_alone(database: Database, kind: str, principal: Principal) -> None:
    batch_id = insert_batch(database, 4, name="<script>alert(1)</script>")
    write_results(database, batch_id, [(0, {"label": "A", "score": 0.5}), (1, "out_of_memory")])
    context = app_over(database, database.url).state.context

    for part in PARTS[kind]:
        html = parts.render_part(
            part.template, parts.audience_of(principal), "/", part.read(context, principal, batch_id)
        )
        assert "<script" not in html
        assert "csrf" not in html


@pytest.mark.parametrize("kind", ["overview", "batch"])
def test_a_page_has_an_element_for_each_of_its_parts(database: Database, kind: str) -> None:
    batch_id = insert_batch(database, 4)

    with client_over(database, database.url) as client:
        html = client.get("/" if kind == "overview" else f"/batches/{batch_id}").text

    assert set(re.findall(r'data-live="(?!row-)([^"]+)"', html)) == {part.name for part in PARTS[kind]}
    assert 'data-live-stream="/events/' in html
