"""Settings of Sphinx: `make docs` builds the documents into build/docs, strictly and without a network."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "_extensions")]

project = "Batchmill"
author = "the authors of Batchmill"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_design",
    "error_classes",
    "plain_docstrings",
    "repository_files",
]
exclude_patterns = ["_extensions", "_static"]
nitpicky = True
nitpick_ignore_regex = [  # names in annotations that have no page here
    ("py:.*", r"(collections|datetime|numpy|os|pandas|pathlib|polars|pyarrow|pydantic|torch|typing)\..*"),
    ("py:.*", r"(abc\.)?ABC|Exception|ConfigDict|Settings|Catalogue|Database|optional|default|dataclass.*"),
    ("py:.*", r"(models|producer|worker)\..*"),
]
default_role = "code"  # docstrings write `name` as Markdown does
highlight_language = "none"
suppress_warnings = [
    "misc.highlighting_failure"  # examples shorten statements with …
]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

python_maximum_signature_line_length = 80
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_mock_imports = ["torch"]  # only named in annotations; importing it takes seconds

smartquotes = False  # a copied command keeps its two dashes

html_theme = "furo"
html_title = "Batchmill"
html_static_path = ["_static"]
html_css_files = ["batchmill.css"]
html_js_files = ["messages.js"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_search_summary = False  # it would fetch each page, which browsers refuse from disk
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_line_continuation_character = "\\"
html_theme_options = {"navigation_with_keys": True}
