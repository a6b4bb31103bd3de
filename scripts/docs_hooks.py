"""Hooks of the documentation site."""

import json
import re
from pathlib import Path
from typing import Any

NOTEBOOK = re.compile(r"<!-- notebook: (\S+) -->")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Insert notebooks, and make links that leave docs/ point to the repository."""
    folder = Path(config["docs_dir"])
    markdown = NOTEBOOK.sub(lambda match: notebook_as_markdown(folder / match[1]), markdown)
    to_root = "../" * (page.file.src_uri.count("/") + 1)
    return re.sub(rf"\]\({re.escape(to_root)}", f"]({config['repo_url']}/blob/main/", markdown)


def notebook_as_markdown(path: Path) -> str:
    """The cells of an executed notebook, with their printed text and their pictures."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if output["output_type"] == "stream":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            elif "image/jpeg" in data:
                parts.append(
                    f'<img alt="Plot made by the cell above" src="data:image/jpeg;base64,{data["image/jpeg"].strip()}">'
                )
    return "\n\n".join(parts)
