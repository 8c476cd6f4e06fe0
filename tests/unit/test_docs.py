"""What the documents say of schedules is what there is."""

import base64
import re
import time
import tomllib
from pathlib import Path
from typing import Any

from models.postgresql import grants
from models.settings import Settings
from producer.cli.schedules.schedule import schedule
from producer.schedules.alerts.events import EventKind
from producer.schedules.alerts.signing import SigningSecret
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.timing.file_templates import NUMERIC_DIRECTIVES

ROOT = Path(__file__).resolve().parents[2]
NIGHTLY = (ROOT / "docs" / "nightly.md").read_text("utf-8")


def blocks(language: str, page: str = NIGHTLY) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_each_field_of_a_schedule_has_its_line_and_its_option() -> None:
    table = NIGHTLY.partition("## Fields")[2].partition("\n## ")[0]
    named = [cell for line in table.splitlines() if line.startswith("| `") for cell in line.split("|")[1].split(",")]
    fields = {re.sub(r"[` °]", "", cell): "°" in cell for cell in named}

    assert fields.keys() == ScheduleDefinition.model_fields.keys()
    options = {parameter.name for parameter in schedule.commands["create"].params}
    assert {name for name, without in fields.items() if not without} == options - {"replace"}


def test_the_events_the_commands_and_a_file_s_times_are_those_that_there_are() -> None:
    events = NIGHTLY.partition("## Events")[2]

    assert [kind for kind in EventKind if f"`{kind}`" not in events] == []
    assert [name for name in schedule.commands if f"{name}" not in NIGHTLY] == []
    assert sorted(re.findall(r"%(\w)", NIGHTLY.partition("Its pattern takes")[2].partition(",")[0])) == sorted(
        NUMERIC_DIRECTIVES
    )


def test_the_webhook_s_receiver_takes_what_is_ours_and_nothing_else() -> None:
    given: dict[str, Any] = {}
    exec(compile(blocks("python")[0], "docs/nightly.md", "exec"), given)
    secret, body, now = "whsec_" + base64.b64encode(b"k" * 32).decode(), b'{"type": "schedule.drift"}', int(time.time())
    headers = SigningSecret.parse(secret).signature_headers("msg_1", now, body)

    is_ours = given["is_ours"]
    assert is_ours(secret, headers, body)
    assert is_ours(secret, headers | {"webhook-signature": f"v1,other {headers['webhook-signature']}"}, body)
    assert not is_ours(secret, headers, body + b" ")
    assert not is_ours(secret, headers | {"webhook-id": "msg_2"}, body)
    assert not is_ours("whsec_" + base64.b64encode(b"x" * 32).decode(), headers, body)
    assert not is_ours(secret, SigningSecret.parse(secret).signature_headers("msg_1", now - 3600, body), body)


def test_the_example_s_schedule_is_the_one_that_is_told_of() -> None:
    said = tomllib.loads(blocks("toml")[0])["schedules"]["nightly-tickets"]
    lived = tomllib.loads((ROOT / "examples" / "nightly" / "batchmill.toml").read_text("utf-8"))

    assert said == lived["schedules"]["nightly-tickets"]
    assert ScheduleDefinition.from_fields("nightly-tickets", said)
    Settings(**lived)


def test_the_page_on_postgresql_names_what_there_is() -> None:
    page = (ROOT / "docs" / "postgresql.md").read_text("utf-8")

    assert "BATCHMILL_DATABASE_BEHIND_POOLER" in page
    assert Settings.model_fields["database_behind_pooler"].default is False
    for purpose in grants.Purpose:
        assert f"--{purpose.value} mill_{purpose.value}" in page
    place = grants.SchemaLocation("mill", "public")
    for line, said in zip(
        grants.grant_statements(place, "mill_reader", grants.Purpose.READER),
        blocks("sql", page)[1].splitlines(),
        strict=True,
    ):
        assert re.fullmatch(re.escape(said).replace("…", ".*"), line)
