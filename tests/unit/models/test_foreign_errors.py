import pytest

from models.foreign_errors import first_line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("a\nb", "a"),
        ("  a  \n", "a"),
        ("", "ValueError"),
        ("All failures were:\n- host a: refused\n", "All failures were: host a: refused"),
        ("It failed:", "It failed"),
        ("It failed:\n\n  because", "It failed: because"),
        (": ", "ValueError"),
    ],
)
def test_a_foreign_message_in_one_line_names_its_cause(message: str, line: str) -> None:
    assert first_line(ValueError(message)) == line
