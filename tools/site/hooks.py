"""What MkDocs does for this repository: pages that lie elsewhere or are made, and links that lead out of `docs/`.

The Markdown files are read where they are, by people and by the tests; nothing in them is for the site alone.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))

import reference

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "bench/README.md": "benchmarks.md",
}
"""Files of the repository that are pages too."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Put the pages of the reference into the navigation."""
    for part in config.nav:
        if "Reference" in part:
            part["Reference"] = [f"{reference.FOLDER}/README.md", *reference.nav()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in `docs/`."""
    for source, uri in ELSEWHERE.items():
        files.append(File.generated(config, uri, content=(ROOT / source).read_text()))
    for uri, text in reference.pages().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn the links between files of the repository into links between pages."""
    uri = page.file.src_uri
    places = {there: source for source, there in ELSEWHERE.items()}
    if uri.startswith(f"{reference.FOLDER}/"):
        return markdown
    folder = posixpath.dirname(places.get(uri, f"docs/{uri}"))

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[3]))
        there = ELSEWHERE.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if there is None:  # a file that is no page
            return f"`{match[2].strip('`')}`" if (ROOT / target).exists() else match[0]
        return f"{match[1]}[{match[2]}]({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{match[4] or ''})"

    return LINK.sub(moved, markdown)
