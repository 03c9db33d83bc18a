"""The contract of the web page and the TypeScript client: `web/openapi.json`, the OpenAPI document of
a server with all dialects. `python -m tests.support.contract` (`make contract`) writes it anew.

It is without the links from one answer to the next route, which are for programs that walk the
document: a new route would change them in a hundred places.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from assent.api.openapi_links import operations
from tests.support.document import document

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "web" / "openapi.json"
WRITE = "make contract"
"""The command that writes it."""


def contract() -> str:
    """What the file should be, of the code as it is now."""
    described: Any = json.loads(json.dumps(document()))
    # The environment may have been installed when it was another version.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    described["info"]["version"] = project["version"]
    described["components"].pop("links")
    for _, _, operation in operations(described):
        for response in operation["responses"].values():
            response.pop("links", None)
    return json.dumps(described, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    CONTRACT.write_text(contract(), encoding="utf-8")
