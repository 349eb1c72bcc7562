"""What the pages need beside mkdocs: pictures and tables of results/, and docstrings' roles as plain code."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

RESULTS = "results"
#: What of results/ a page may show or link.
SHOWN = (".png", ".csv")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add charts and tables of results/, which lies beside docs/, to the site."""
    root = Path(config.config_file_path).parent
    for path in sorted(path for path in (root / RESULTS).rglob("*") if path.suffix in SHOWN):
        name = path.relative_to(root).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let links to results/ hold both here, where it lies beside the pages, and in a checkout, where it is one up."""
    return re.sub(rf"\]\(\.\./((?:\.\./)*{RESULTS}/)", r"](\1", markdown)


def on_page_content(html: str, **_: object) -> str:
    """Show ``:func:`name``` of a docstring as its name."""
    return re.sub(r":(?:py:)?(?:mod|class|func|meth|data|attr):<code>~?", "<code>", html)
