"""The parameter `output_schema`: the texts that a model may write, as a JSON schema or a regular expression.

It is kept as text. One that begins with a brace is a JSON schema, which no regular expression does; as text, the order
of its properties survives every database, and the model writes them in that order.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

PACKAGE, EXTRA = "llguidance", "structured"

MAX_SCHEMA_BYTES = 65_536
MAX_SCHEMA_DEPTH = 64

VALUE_KEYS = frozenset({"const", "enum", "default", "examples"})  # no schemas below them

OPTIONS_KEY = "x-guidance"  # with it, a schema could ask the library to be lenient

# Blanks as `json.dumps` writes them: with free ones, a model may write blanks until its tokens run out.
GRAMMAR_OPTIONS = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": False,
    "lenient": False,
}

# An escape, the beginning of a class with a bracket that stands for itself, or any other sign.
PATTERN_PARTS = re.compile(r"\\.|\[\^?\]?|.", re.DOTALL)
# Libraries differ on Unicode's classes, and so do its versions. These hold no sign that another library leaves out;
# those of a negated class hold every sign that another one has.
CLASSES = {
    r"\d": "0-9",
    r"\w": "0-9A-Za-z_",
    r"\s": r" \t\n\r\f\v",
    r"\D": r"[^\p{Nd}]",
    r"\W": r"[^\p{L}\p{M}\p{N}_]",
    r"\S": r"[^\s\x1c-\x1f]",
}
NEGATED_CLASSES = {
    r"\d": r"\p{Nd}",
    r"\w": r"\p{L}\p{M}\p{N}_",
    r"\s": r"\s\x1c-\x1f",
    r"\D": "[^0-9]",
    r"\W": "[^0-9A-Za-z_]",
    r"\S": r"[^ \t\n\r\f\v]",
}

UNSUPPORTED_KEYS = re.compile(r"Unimplemented keys: \[([\w\", $]*)\]")
PATTERN_ERROR = re.compile(r"^error: ([\w ,-]+)$", re.MULTILINE)
# What the library says, and how to say it without a word of the schema.
EXPLANATIONS = {
    "oneOf": "alternatives of a oneOf may hold together; tell them apart by a required const, or use anyOf",
    "Unsatisfiable": "no text satisfies it",
    "Properties only supported": "minProperties and maxProperties take properties that are all required",
    "Failed to generate regex for": "a bound of a number is too large or too small, or its bounds leave no number",
    "maximum number of nested": "a bound of a number or a pattern is too long",
    "Pointer": "a $ref names nothing in it",
    "Resource": "a $ref or $schema names another document, and none is fetched",
    "Unknown format": "it has a format that is not supported",
    "Invalid type": "it has a type that JSON does not know",
    "lookarounds": "a pattern has a look-around, such as \\b, or an anchor in its middle, which is not supported",
}


def is_json_schema(schema: str) -> bool:
    """Whether a schema is a JSON schema, and not a regular expression."""
    return schema.startswith("{")


def to_text(schema: str | Mapping[str, Any]) -> str:
    """Return a schema as text. Raises ValueError that says what is wrong with it, without a word of it."""
    if isinstance(schema, str) and is_json_schema(schema.lstrip()):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            raise ValueError("begins with a brace, as a JSON schema does, but is no JSON") from None
    text = schema if isinstance(schema, str) else _encode(schema)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("has half a surrogate pair; mend its encoding") from None
    if not size:
        raise ValueError("must not be empty")
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"has {size:,} bytes; at most {MAX_SCHEMA_BYTES:,} are taken")
    if "\0" in text or "\\u0000" in text:
        raise ValueError("must not have a NUL character, which no database stores")
    return text


def to_grammar(schema: str) -> str:
    """Return the library's own form of a schema. Raises ImportError without the library, and ValueError."""
    from llguidance import LLMatcher

    if is_json_schema(schema):
        document = _encode(_with_common_patterns(json.loads(schema)))
        return str(LLMatcher.grammar_from_json_schema(document, overrides=GRAMMAR_OPTIONS))
    return str(LLMatcher.grammar_from_regex(with_common_classes(schema)))


def with_common_classes(pattern: str) -> str:
    r"""Return a regular expression with ASCII's \d, \w and \s, all of whose texts other libraries match too."""
    parts, depth, negated_depth = [], 0, 0
    for part in PATTERN_PARTS.findall(pattern):
        if part.startswith("["):
            depth += 1
            negated_depth = negated_depth or (depth if part.startswith("[^") else 0)
        elif part == "]" and depth:
            negated_depth = 0 if negated_depth == depth else negated_depth
            depth -= 1
        elif part in CLASSES:
            signs = (NEGATED_CLASSES if negated_depth else CLASSES)[part]
            part = signs if depth else f"[{signs}]"
        parts.append(part)
    return "".join(parts)


def explain(problem: str) -> str:
    """Return what the library says, in words that repeat nothing of the schema but keywords."""
    if keys := UNSUPPORTED_KEYS.search(problem):
        return f"these keywords are not supported: {keys[1].replace(chr(34), '')}"
    if reason := PATTERN_ERROR.search(problem):
        return f"a regular expression can't be read: {reason[1]}"
    matching = (words for start, words in EXPLANATIONS.items() if start in problem)
    return next(matching, "it is no valid schema, or too large")


def _encode(schema: Mapping[str, Any]) -> str:
    if _is_deeper(schema, MAX_SCHEMA_DEPTH):
        raise ValueError(f"must be nested at most {MAX_SCHEMA_DEPTH} deep")
    if OPTIONS_KEY in schema:
        raise ValueError(f"must not have the key {OPTIONS_KEY}; leave it out")
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):
        raise ValueError("must be a JSON schema, so its values must be those of JSON") from None


def _with_common_patterns(schema: Any) -> Any:
    """A part of a JSON schema whose patterns have the classes of `with_common_classes`."""
    if isinstance(schema, list):
        return [_with_common_patterns(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: part if key in VALUE_KEYS else _with_common_patterns(part) for key, part in schema.items()}
    if isinstance(pattern := changed.get("pattern"), str):
        changed["pattern"] = with_common_classes(pattern)
    if isinstance(properties := changed.get("patternProperties"), dict):
        changed["patternProperties"] = {with_common_classes(key): part for key, part in properties.items()}
    return changed


def _is_deeper(value: Any, depth: int) -> bool:
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return depth == 0 or any(_is_deeper(child, depth - 1) for child in children)
