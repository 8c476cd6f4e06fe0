"""Personal data is found by kind, and numbers that are something else are left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.guards.personal_data.rule import FINDERS, PersonalDataRule
from models.guards.reading import NOTHING_CAUGHT, Span

ALL = PersonalDataRule(tuple(FINDERS))
MILLION = 1_000_000


def found(text: str, *kinds: str) -> list[tuple[str, str | None]]:
    rule = PersonalDataRule(kinds) if kinds else ALL
    return [(text[span.start : span.end], span.label) for span in rule.read(text).spans]


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.org",
        "ada.l+news@mail.example.co.uk",
        "o'neil_1@x-y.example",
        "jürgen@müller.example",
        "用户@例子.公司",
        "a@xn--bcher-kva.example",
        "joe@xn--e1afmkfd.xn--p1ai",
        "joe@example.XN--MGBERP4A5D4AR",
    ],
)
def test_email_addresses(address: str) -> None:
    assert found(f"Write to <{address}>, please.") == [(address, "EMAIL")]


@pytest.mark.parametrize("text", ["a@b", "@example.org", "ada@", "lodash@4.17.21", "logo@2x.png", "a @ b.c"])
def test_no_email_addresses(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "378282246310005",
        "3782 822463 10005",
        "30569309025904",
        "6011 1111 1111 1117",
        "4222222222222",
        "6304000000000000000",
        "1234 5678 1234 5670",
        "\uff14\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11\uff11",
        "4111\u00a01111\u20111111\u200b 1111",
    ],
)
def test_card_numbers(number: str) -> None:
    assert found(f"card {number}, 12/29") == [(number, "CARD")]


def test_letters_beside_a_card_number_do_not_hide_it() -> None:
    assert found("Visa4111111111111111CVV") == [("4111111111111111", "CARD")]


def test_a_card_number_is_found_before_its_security_code() -> None:
    assert found("4111 1111 1111 1111 123") == [("4111 1111 1111 1111", "CARD")]


@pytest.mark.parametrize(
    "text",
    [
        "{},12/27",
        "Ada,{},123",
        "7,{},12/27,123",
        "[1,{}]",
        "[{},123]",
        "{},{}",
        "{}\t{}",
        "1.{} 5",
        "{}.5",
        "0.41111111 {}",
    ],
)
@pytest.mark.parametrize("number", ["4111 1111 1111 1111", "5555-5555-5555-4444", "3782 822463 10005"])
def test_card_numbers_among_other_numbers(text: str, number: str) -> None:
    assert found(text.format(number, number), "card") == [(number, "CARD")] * text.count("{}")


@pytest.mark.parametrize("text", ["{},12/27", "Ada,{},123", "7,{},12/27,123", "[1,{}]", "[{},123]", "{},{}", "{} 0.5"])
def test_card_numbers_without_groups_among_other_numbers(text: str) -> None:
    number = "4111111111111111"

    assert found(text.format(number, number), "card") == [(number, "CARD")] * text.count("{}")


@pytest.mark.parametrize("card", ["4111-1111-1111-1111", "4111 1111 1111 1111"])
def test_the_usual_form_of_a_card_counts_before_an_earlier_start(card: str) -> None:
    assert found(f"2671 {card}", "card") == [(card, "CARD")]  # 2671 4111 1111 1111 has a right check digit, too


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # Luhn's formula does not hold
        "0000 0000 0000 0000",
        "411111111111",  # 12 digits
        "41111111111111111111",  # 20 digits
        "0.4111111111111111",
        "4111111111111111.25",
        "0.4111111111111111 0.5555555555554444 0.1",
        "5 4111111111111111.25",
        "1700000000003",  # a time in milliseconds for which the formula holds
    ],
)
def test_no_card_numbers(text: str) -> None:
    assert found(text, "card") == []


@pytest.mark.parametrize(
    "iban",
    [
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "gb82 west 1234 5698 7654 32",
        "NO9386011117947",
        "MT84MALT011000012345MTLCAST001S",
        "FR14-2004-1010-0505-0001-3M02-606",
        "LC55HEMM000100010012001200023015",
    ],
)
def test_ibans(iban: str) -> None:
    assert found(f"IBAN: {iban} (new)") == [(iban, "IBAN")]


@pytest.mark.parametrize("rest", ["BIC", "_1", "bic COBADEFF"])
def test_letters_after_an_iban_do_not_hide_it(rest: str) -> None:
    assert found(f"IBAN DE89370400440532013000{rest}") == [("DE89370400440532013000", "IBAN")]


@pytest.mark.parametrize(
    "text",
    [
        "DE893704004405320130001",
        "DE89 3704 0044 0532 0130 00x",
        "DE88370400440532013000",
        "DE8937040044053201300",
        "XX89370400440532013000",
    ],
)
def test_no_ibans(text: str) -> None:
    assert found(text, "iban") == []


@pytest.mark.parametrize(
    "address",
    [
        "192.168.1.1",
        "8.8.8.8",
        "192.168.001.001",
        "fe80::1",
        "2001::1",
        "2001:4860:4860::8888",
        "2001:db8::8a2e:370:7334",
        "::1",
        "::ffff:10.0.0.1",
    ],
)
def test_ip_addresses(address: str) -> None:
    assert found(f"from {address}: connected to {address}.") == [(address, "IP"), (address, "IP")]
    assert found(f"连接{address}失败") == [(address, "IP")]


@pytest.mark.parametrize(
    "text",
    [
        "v1.2.3.4",
        "1.2.3",
        "1.2.3.4.5",
        "300.1.1.1",
        "12:30:45",
        "std::vector",
        "a::b",
        "x[::2]",
        "12::34",
        "ratio 1::2",
        "00:1a:2b:3c:4d:5e",
    ],
)
def test_no_ip_addresses(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "number",
    [
        "+49 (0)30 123456",
        "+4915112345678",
        "+1 (555) 123-4567",
        "+44 20 7946 0958",
        "0049 30 123456",
        "555-123-4567",
        "(555) 123-4567",
        "555.123.4567",
        "1-800-555-0199",
        "212 555 0123",
        "06 12 34 56 78",
        "06.12.34.56.78",
        "030 1234567",
        "(030) 123-4567",
        "020 7946 0958",
        "07911 123456",
        "\uff0b\uff14\uff19 \uff13\uff10 \uff11\uff12\uff13\uff14\uff15\uff16",
    ],
)
def test_phone_numbers(number: str) -> None:
    assert found(f"My number, {number}, is new.") == [(number, "PHONE")]


@pytest.mark.parametrize("number", ["415-555-2671", "06 12 34 56 78", "030 901820", "212 555 0123", "0049 30 123456"])
def test_phone_numbers_between_commas(number: str) -> None:
    assert found(f"7,{number},1") == [(number, "PHONE")]
    assert found(f"[7,{number},{number}]", "phone") == [(number, "PHONE")] * 2


@pytest.mark.parametrize(
    "text",
    [
        "415-555-2671/415-555-2672/415-555-2673",
        "415 555 2671 415 555 2672 415 555 2673",
        "06 12 34 56 78 06 12 34 56 79",
        "06.12.34.56.78/06.12.34.56.79",
        "030 901820/030 901821/030 901822",
        "+1 415 555 2671 415 555 2672",
        "+4930901820/030 901820",
        "+49 30 901820 030 901821",
        "+44 20 7946 0958/415-555-2671",
        "030 901820 030 901821 030 901822",
        "+14155552671/+14155552672/415-555-2671",
    ],
)
def test_phone_numbers_beside_each_other(text: str) -> None:
    rest = f"{text}."
    for span in reversed(ALL.read(rest).spans):
        rest = rest[: span.start] + rest[span.end :]

    assert rest.strip(" /") == "."


def test_phone_numbers_that_touch_are_one_span() -> None:
    assert found("+14155552671+4930901820") == [("+14155552671+4930901820", "PHONE")]


@pytest.mark.parametrize("word", ["Tel.: ", "phone ", "call me at ", "Fax no. ", "téléphone : ", "Handy "])
@pytest.mark.parametrize("number", ["5551234567", "07911123456", "1234567"])
def test_phone_numbers_after_their_word(word: str, number: str) -> None:
    assert found(f"{word}{number}") == [(number, "PHONE")]


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-15 10:30:00",
        "01.02.2024 10:30",
        "01-02-2024 1030",
        "01/02/2024",
        "call 2024-01-15",
        "order 1234567890, 4711-0815",
        "version 10.15.7.1",
        "1,234,567.89 EUR",
        "1.234.567,89",
        "1 234 567 890",
        "1700000000",
        "978-3-16-148410-0",
        "123-45-6789",
        "550e8400-e29b-41d4-a716-446655440000",
        "2+1234567",
        "UTC+01:00",
        "002 003 004 005",
        "001-234-567",
        "+100 200 300 points",
    ],
)
def test_numbers_that_are_no_phone_numbers_nor_cards(text: str) -> None:
    assert found(text, "phone", "card") == []


def test_the_surer_kind_takes_the_digits() -> None:
    text = "DE89 3704 0044 0532 0130 00 or 4111 1111 1111 1111"

    assert found(text, "phone") == []
    assert found(text, "card") == [("4111 1111 1111 1111", "CARD")]
    assert found("+491511234567@mail.example") == [("+491511234567@mail.example", "EMAIL")]


@pytest.mark.parametrize(
    ("phone", "other", "label"),
    [
        ("+14155552671", "192.168.1.1", "IP"),
        ("030 901820", "192.168.1.1", "IP"),
        ("+49 30 901820", "4111 1111 1111 1111", "CARD"),
        ("+1 415 555 2671", "4111-1111-1111-1111", "CARD"),
        ("+4915112345678", "4111111111111111", "CARD"),  # whose own check digit is right
        ("+1 415 555 2671", "DE89 3704 0044 0532 0130 00", "IBAN"),
    ],
)
def test_a_phone_number_beside_a_surer_kind_is_found(phone: str, other: str, label: str) -> None:
    text = f"call {phone} {other}"

    assert found(text) == [(phone, "PHONE"), (other, label)]
    assert found(text, "phone") == [(phone, "PHONE")]


def test_only_the_kinds_that_were_asked_for() -> None:
    text = "a@b.example 8.8.8.8"

    assert found(text, "ip") == [("8.8.8.8", "IP")]
    assert found(text) == [("a@b.example", "EMAIL"), ("8.8.8.8", "IP")]


def test_offsets_are_those_of_the_text_as_it_stands() -> None:
    text = "😀 e\u0301 ﬁ a\u200b@b.example"

    assert ALL.read(text).spans == (Span(7, 19, "EMAIL"),)
    assert ALL.read(text).label == "EMAIL"


def test_a_text_without_personal_data_shares_one_reading() -> None:
    assert ALL.read("nothing to see in 2024") is NOTHING_CAUGHT
    assert ALL.read("12 345 678 901 : 1.2.3") is NOTHING_CAUGHT


@pytest.mark.parametrize("text", ["8.8.8.8 a@b.cc 8.8.4.4 end", "8.8.8.8 \u200ba@b.cc 8.8.4.4 end"])
def test_the_rest_of_a_text_with_too_many_places_is_one_span(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.guards.spans.limit_places.__defaults__", (2,))

    assert ALL.read(text).spans == (Span(0, 7, "IP"), Span(text.index("a@"), len(text), "EMAIL"))


@given(st.text(alphabet="01 45+-.:@abDE\u200b\uff11é", max_size=60))
def test_spans_are_in_order_and_apart(text: str) -> None:
    end = 0
    for span in ALL.read(text).spans:
        assert end <= span.start < span.end <= len(text)
        end = span.end


@pytest.mark.parametrize(
    "unit",
    ["@", "1", "4 ", "1-", "0 1 ", "a@", "a@b.cc ", "1.1.", "1:", ":", "DE12 ", "+1", "1(((", "call ", "\u200b1", "é1"],
)
def test_evil_texts_are_read_in_linear_time(unit: str) -> None:
    reading = ALL.read(unit * (100_000 // len(unit)))

    assert len(reading.spans) in {0, 14_285}
