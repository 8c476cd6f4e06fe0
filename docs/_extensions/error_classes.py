"""Sphinx: the directive `error-classes` documents every public error, with its code and its exit code."""

from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from models import errors

# What a class alone does not say.
REMARKS = {errors.NothingToRetry: "the command `retry` exits with 0"}


def public_errors(parent: type[errors.BatchmillError] = errors.BatchmillError) -> Iterator[type[errors.BatchmillError]]:
    """The root of the tree and all below it, each parent before its children."""
    yield parent
    for error in parent.__subclasses__():
        if error.__module__ == errors.__name__:
            yield from public_errors(error)


def describe(error: type[errors.BatchmillError]) -> list[str]:
    """The directive that documents one class."""
    remark = "the same work may succeed later" if error.retryable else "a retry gets the same error"
    exits = REMARKS.get(error, f"exit code {error.exit_code}")
    facts = f"Code `{error.code}`, {exits}; {remark}."
    return [f".. autoclass:: batchmill.{error.__name__}", "   :show-inheritance:", "", f"   {facts}", ""]


class ErrorClasses(SphinxDirective):
    """Documents the classes of `models.errors` under the names that programs import."""

    def run(self) -> list[nodes.Node]:
        """The nodes of all classes."""
        return self.parse_text_to_nodes("\n".join(line for error in public_errors() for line in describe(error)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("error-classes", ErrorClasses)
    return {"parallel_read_safe": True}
