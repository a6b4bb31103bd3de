"""Hooks of the documentation site."""

import re
from typing import Any


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Make links that leave docs/ point to the repository: such files are not part of the site."""
    to_root = "../" * (page.file.src_uri.count("/") + 1)
    return re.sub(rf"\]\({re.escape(to_root)}", f"]({config['repo_url']}/blob/main/", markdown)
