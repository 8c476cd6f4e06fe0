"""Sphinx: docstrings and the help of commands, in the project's style, become reStructuredText.

A docstring has one line for each parameter, with its continuation indented:

    tokens: how many a row may have; None = no limit.
    status, labels: only such results.

Such lines become a list under the heading "Parameters". Characters that reStructuredText would read as markup are
escaped outside backticks.
"""

import re

import click
from docutils import nodes
from sphinx.application import Sphinx

COMMAND_LINE, GROUP_DEPTH = "reference/command-line", 3
PARAMETER = re.compile(r"(?P<names>\*{0,2}\w+(?:, \w+)*): (?P<text>\S.*)")
MARKUP = re.compile(r"(``.*?``|`[^`]*`)|([*|\\]|(?<=\w)_(?!\w))")


def escape(line: str) -> str:
    """The line with `*`, `|`, a backslash and a word's last underscore escaped, outside backticks."""
    return MARKUP.sub(lambda found: found[1] or f"\\{found[2]}", line)


def convert(lines: list[str]) -> list[str]:
    """A docstring in reStructuredText."""
    converted: list[str] = []
    is_list = False
    for line in lines:
        parameter = PARAMETER.fullmatch(line)
        if parameter and not is_list:
            converted += ["", ":Parameters:"]
        if parameter:
            names = ", ".join(f"**{escape(name)}**" for name in parameter["names"].split(", "))
            converted.append(f"   * {names}: {escape(parameter['text'])}")
        elif is_list and line.startswith("    "):
            converted.append(f"     {escape(line.strip())}")
            continue
        else:
            converted += ["", escape(line)] if is_list else [escape(line)]
        is_list = parameter is not None
    return converted


def process_docstring(_app: Sphinx, _kind: str, _name: str, _item: object, _options: object, lines: list[str]) -> None:
    """Convert one docstring in place."""
    lines[:] = convert(lines)


def process_command(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Escape the help of one command in place; the directives themselves stay."""
    lines[:] = [line if line.lstrip().startswith("..") else escape(line) for line in lines]


def name_subcommands(app: Sphinx, document: nodes.document) -> None:
    """Put the name of a group before those of its commands: there are three called `ls`."""
    if app.env.docname != COMMAND_LINE:
        return
    for section in document.findall(nodes.section):
        above = [parent.next_node(nodes.title) for parent in _sections_above(section)]
        if len(above) == GROUP_DEPTH:  # the page and the program come first
            title = section.next_node(nodes.title)
            title.children[:] = [nodes.Text(f"{above[0].astext()} {title.astext()}")]


def _sections_above(section: nodes.section) -> list[nodes.section]:
    found = []
    node = section.parent
    while isinstance(node, nodes.section):
        found.append(node)
        node = node.parent
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to autodoc and to sphinx-click."""
    app.connect("doctree-read", name_subcommands, priority=400)  # before the table of contents is made
    app.connect("autodoc-process-docstring", process_docstring)
    for part in ("description", "options", "epilog"):
        app.connect(f"sphinx-click-process-{part}", process_command)
    return {"parallel_read_safe": True}
