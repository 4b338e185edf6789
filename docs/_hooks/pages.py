"""A hook of the documentation site: links that leave docs/ lead to the repository, and notebooks become pages.

Pages are written for a reader of the repository, where `../examples/x.py` and `notebooks/x.ipynb` are files. Notebooks
are shown as they are stored, and are not executed.
"""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, config: Any) -> Files:
    """A Markdown page in place of each notebook."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            text = as_markdown(Path(config.docs_dir, file.src_uri))
            files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=text))
    return files


def as_markdown(path: Path) -> str:
    """The cells of a notebook, code in blocks."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    return "\n\n".join(f"```python\n{text}\n```" if kind == "code" else text for kind, text in texts)


def on_page_markdown(markdown: str, page: Any, config: Any, **_: object) -> str:
    """Point links where they lead on the site."""
    folder = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match) -> str:
        before, target, after = link.groups()
        if "://" in target:
            return link[0]
        place = posixpath.normpath(posixpath.join("docs", folder, target))
        if not place.startswith("docs/"):
            return f"{before}{config.repo_url.rstrip('/')}/blob/main/{place}{after}"
        return before + target.replace(".ipynb", ".md") + after

    return LINK.sub(moved, markdown)
