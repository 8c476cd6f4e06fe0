"""Wrong settings and parameters in the user's words: what a value must be, and which name is meant. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

MAX_NAME_CHARACTERS = 80
MIN_SIMILARITY, MIN_CHOICE_SIMILARITY = 0.7, 0.5  # 0 to 1; max_len and max_length have 0.82, fp16 and float16 0.55

KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "string": "text", "list": "a list"}
KINDS |= {"tuple": "a list", "dict": "a table", "path": "a path", "finite": "a finite number"}
BOUNDS = {"greater_than": ("over", "gt"), "greater_than_equal": ("at least", "ge")}
BOUNDS |= {"less_than": ("under", "lt"), "less_than_equal": ("at most", "le")}


def nearest(name: str, choices: Iterable[str], min_similarity: float = MIN_SIMILARITY) -> str | None:
    """Return the choice that a misspelt name probably means; None if none is similar."""
    similarity = {choice: _similarity(name[:MAX_NAME_CHARACTERS], choice) for choice in choices}
    best = max(similarity, key=lambda choice: similarity[choice], default=None)
    return best if best is not None and similarity[best] >= min_similarity else None


def suggest(
    name: str, choices: Sequence[str], otherwise: str = "it takes", aliases: Mapping[str, str] | None = None
) -> str:
    """Return `is X meant?` for an unknown name, or a list of all choices if none is similar.

    aliases: other names of choices, as people know them
    """
    aliases = {alias: choice for alias, choice in (aliases or {}).items() if alias not in choices}
    choice = nearest(name, [*choices, *aliases])
    return f"is {aliases.get(choice, choice)} meant?" if choice else f"{otherwise}: {', '.join(choices) or 'none'}"


def describe_problems(
    error: "ValidationError", model: type["BaseModel"], unknown: str = "there is no field", noun: str = ""
) -> str:
    """Return one clause for each wrong field, such as `parameter 'top_p' must be at most 1`.

    model: the class that was validated
    unknown: start of the clause for a field that does not exist
    noun: word before the quoted names; empty = the names stand alone
    """
    problems: dict[str, list[Any]] = {}
    for problem in error.errors():
        problems.setdefault(str(problem["loc"][0]) if problem["loc"] else "", []).append(problem)
    return "; ".join(_describe_field(name, group, model, unknown, noun) for name, group in problems.items())


def _describe_field(name: str, problems: Sequence[Any], model: type["BaseModel"], unknown: str, noun: str) -> str:
    if problems[0]["type"] == "extra_forbidden":
        return f"{unknown} {name[:MAX_NAME_CHARACTERS]!r}; {suggest(name, list(model.model_fields))}"
    nested = [problem for problem in problems if any(isinstance(part, int) for part in problem["loc"])]
    problems = nested[:1] or problems  # the value is a list, so only its entries can be wrong
    field = model.model_fields.get(name)
    path = _path(name, problems[0]["loc"], is_table=field is not None and get_origin(field.annotation) is dict)
    clause = _merge(dict.fromkeys(_describe_value(problem, field and field.examples) for problem in problems))
    if noun == "parameter":  # of a batch, whose parameters are JSON; tables are those of batchmill.toml
        clause = clause.replace("a table", "a JSON object")
    label = f"{noun} {path!r}" if noun else path
    if not path or clause.startswith(f"{name} "):
        return clause
    return f"{label} {clause}" if clause.startswith(("must ", "has no ", "is missing")) else f"{label}: {clause}"


def _merge(clauses: Iterable[str]) -> str:
    """Merge the clauses of a field that takes several kinds of values: it must be the one or the other."""
    first, *others = clauses
    if not others or not all(clause.startswith("must be ") for clause in (first, *others)):
        return first
    return f"must be {_join([kind for clause in (first, *others) for kind in _split(clause.removeprefix('must be '))])}"


def _split(kinds: str) -> list[str]:
    return re.split(r", | or ", kinds)


def _path(name: str, location: Sequence[str | int], *, is_table: bool) -> str:
    # Pydantic also names the branches of a union, such as `list[str]`; only a table has keys.
    key = f".{location[1]}" if is_table and len(location) > 1 else ""
    return name + key + "".join(f"[{part}]" for part in location[1:] if isinstance(part, int))


def _describe_value(problem: Mapping[str, Any], examples: Sequence[Any] | None) -> str:
    kind, context, value = problem["type"], problem.get("ctx", {}), problem.get("input")
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        return _describe_choices(re.findall(r"'([^']*)'", context["expected"]), value)
    if kind == "string_pattern_mismatch" and examples:
        return f"must be like {_join([str(example) for example in examples])}"
    if kind in BOUNDS:
        words, key = BOUNDS[kind]
        return f"must be {words} {context[key]:,g}" if context[key] < 1e6 else f"must be {words} {context[key]:,}"
    if kind.endswith(("too_short", "too_long")):
        return _describe_size(kind, context)
    if kind.startswith("bool") and isinstance(value, str) and value.lower() in ("true", "false"):
        return f"must be true or false, without quotes and in small letters: {value.lower()}"
    if "_" in kind and (expected := KINDS.get(kind.partition("_")[0])):
        return f"must be {expected}"
    return str(problem["msg"]).removeprefix("Value error, ").replace("Input should be ", "must be ")


def _describe_choices(choices: Sequence[str], value: object) -> str:
    choice = nearest(value, choices, MIN_CHOICE_SIMILARITY) if isinstance(value, str) else None
    return f"must be {_join(choices)}" + (f" (is {choice} meant?)" if choice and len(choices) > 1 else "")


def _describe_size(kind: str, context: Mapping[str, Any]) -> str:
    noun = "characters" if kind.startswith("string") else "entries"
    if kind.endswith("too_long"):
        return f"must have at most {context['max_length']:,} {noun}"
    return "must not be empty" if context["min_length"] == 1 else f"must have at least {context['min_length']:,} {noun}"


def _join(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _similarity(name: str, choice: str) -> float:
    """Compare two names letter by letter, and regardless of the order of their words."""
    words, choice_words = (sorted(re.split(r"[\W_]+", text.lower())) for text in (name, choice))
    letters = SequenceMatcher(None, name.lower(), choice.lower()).ratio()
    if set(words) < set(choice_words):  # a part of the name, such as zero-shot
        return max(letters, MIN_SIMILARITY + letters / 10)
    return max(letters, SequenceMatcher(None, " ".join(words), " ".join(choice_words)).ratio())
