"""Each class has one style sheet, each class of a page has a rule, and each rule is used."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAGES = Path(__file__).parents[6] / "producer" / "server" / "pages"

SHARED = {"10-base.css", "15-shared.css"}  # whose classes all areas use

# Classes whose names are data: levels of notices, tones of dots and bars.
DATA = {"good", "bad", "warn", "off", "rest", "accent"}
LIBRARIES = {"u-axis", "u-legend", "htmx-request"}  # set by uPlot and htmx

COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
CLASS = re.compile(r"\.(-?[a-zA-Z_][\w-]*)")
ATTRIBUTE = re.compile(r"""(?<![\w-])class=(?:"([^"]*)"|'([^']*)')""")
EXPRESSION = re.compile(r"([\w-]*)\{\{(.*?)\}\}")
LITERAL = re.compile(r"'([^']*)'")
NO_NAME = re.compile(r"[!=]=\s*'[^']*'|in \([^)]*\)|'[^']*'\s*:|\.get\('[^']*'")
JINJA_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)


@dataclass(frozen=True)
class Selector:
    """One selector of a rule.

    condition: of the at-rules around it, such as `@media (max-width: 760px)`
    """

    file: str
    condition: str
    text: str

    @property
    def owned(self) -> set[str]:
        """The classes that it defines: those of its first element, or the first element that has one."""
        for compound in re.split(r"[\s>+~]+", re.sub(r":(?:not|is|has|where)\([^)]*\)", "", self.text)):
            if found := set(CLASS.findall(compound)):
                return found
        return set()

    @property
    def classes(self) -> set[str]:
        """All classes in it."""
        return set(CLASS.findall(re.sub(r"\[[^]]*\]", "", self.text)))


@cache
def selectors() -> tuple[Selector, ...]:
    """All selectors of the style sheets."""
    found: list[Selector] = []
    for path in sorted((PAGES / "static" / "css").glob("*.css")):
        found += read_rules(path.name, COMMENT.sub("", path.read_text()), "")
    return tuple(found)


def read_rules(file: str, text: str, condition: str) -> Iterator[Selector]:
    """Yield the selectors of a text, those within at-rules too."""
    position = 0
    while (start := text.find("{", position)) >= 0:
        head = " ".join(text[position:start].split())
        depth, end = 1, start + 1
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if head.startswith("@keyframes"):
            pass
        elif head.startswith("@"):
            yield from read_rules(file, text[start + 1 : end - 1], head)
        else:
            yield from (Selector(file, condition, part.strip()) for part in split_list(head))
        position = end


def split_list(head: str) -> list[str]:
    """Split a list of selectors at the commas that are not in brackets."""
    return re.split(r",(?![^(]*\))", head)


@cache
def used_in_templates() -> dict[str, set[str]]:
    """The names and patterns such as `status-*` in `class` attributes, each with its templates."""
    used: dict[str, set[str]] = defaultdict(set)
    for path in sorted((PAGES / "templates").rglob("*.html")):
        text = JINJA_COMMENT.sub("", path.read_text())
        for double, single in ATTRIBUTE.findall(text):
            for name in read_attribute(double or single):
                used[name].add(str(path.relative_to(PAGES / "templates")))
    return used


def read_attribute(value: str) -> set[str]:
    """Return the names in an attribute; one that ends in an expression is each of its literals, or any such name."""
    names: set[str] = set()

    def note(expression: re.Match[str]) -> str:
        before, code = expression.groups()
        literals = [name for literal in LITERAL.findall(NO_NAME.sub("", code)) for name in literal.split()]
        prefix = before if before.endswith("-") else ""
        names.update(prefix + name for name in literals)
        return before.removesuffix(prefix) + (f" {prefix}*" if prefix and not literals else "")

    return set(re.sub(r"\{%.*?%\}", "", EXPRESSION.sub(note, value)).split()) | names


@cache
def words_of_scripts() -> set[str]:
    """All that scripts may name as a class."""
    words: set[str] = set()
    for path in (PAGES / "static" / "js").glob("*.js"):
        for double, back in re.findall(r"\"([^\"\n]*)\"|`([^`]*)`", path.read_text()):
            words |= set(re.findall(r"[\w-]+", double or back))
    return words


def is_used(name: str) -> bool:
    """Whether a template or a script may set a class."""
    if name in DATA | LIBRARIES or name in words_of_scripts():
        return True
    used = used_in_templates()
    return name in used or any(pattern.endswith("*") and name.startswith(pattern[:-1]) for pattern in used)


def test_each_class_is_defined_in_one_file() -> None:
    files: dict[str, set[str]] = defaultdict(set)
    for selector in selectors():
        for name in selector.owned - DATA:
            files[name].add("shared" if selector.file in SHARED else selector.file)

    assert {name: sorted(owners) for name, owners in files.items() if len(owners) > 1} == {}


def test_each_selector_has_one_rule() -> None:
    counts = Counter((selector.condition, selector.text) for selector in selectors())

    assert [key for key, count in counts.items() if count > 1] == []


def test_no_rule_is_unused() -> None:
    unused = {(selector.file, name) for selector in selectors() for name in selector.classes if not is_used(name)}

    assert sorted(unused) == []


def test_each_class_of_a_template_is_defined() -> None:
    defined = {name for selector in selectors() for name in selector.classes}
    undefined = {}
    for name, templates in used_in_templates().items():
        prefix = name.removesuffix("*")
        is_known = any(other.startswith(prefix) for other in defined) if name != prefix else name in defined
        if not is_known and name not in words_of_scripts():
            undefined[name] = sorted(templates)

    assert undefined == {}
