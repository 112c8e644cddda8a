"""Writes the pages of docs/reference from the code's own descriptions: `python docs/tools/reference.py`.

The descriptions are in the code, beside what they describe. A page has nothing of its own but headings and a
sentence or two of introduction.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generated import PAGES

FOLDER = Path(__file__).parents[1] / "reference"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / f"{name}.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
