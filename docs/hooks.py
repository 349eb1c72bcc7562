"""What the pages need beside mkdocs: pictures of results/, columns, and docstrings' roles as plain code."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
RESULTS = "results"
#: What of results/ a page may show or link.
SHOWN = (".png", ".csv")
#: Where a page has the columns of the table.
COLUMNS = "<!-- columns -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add charts and tables of results/, which lies beside docs/, to the site."""
    from mkdocs.structure.files import File

    root = Path(config.config_file_path).parent
    for path in sorted(path for path in (root / RESULTS).rglob("*") if path.suffix in SHOWN):
        name = path.relative_to(root).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put in the columns, and let links to results/ hold here, where it lies beside the pages, as in a checkout."""
    if COLUMNS in markdown:
        # The package need not be installed where its pages are built.
        sys.path.insert(0, str(ROOT))
        from profiler.records.described import columns_markdown

        markdown = markdown.replace(COLUMNS, columns_markdown())
    return re.sub(rf"\]\(\.\./((?:\.\./)*{RESULTS}/)", r"](\1", markdown)


def on_page_content(html: str, **_: object) -> str:
    """Show ``:func:`name``` of a docstring as its name."""
    return re.sub(r":(?:py:)?(?:mod|class|func|meth|data|attr):<code>~?", "<code>", html)
