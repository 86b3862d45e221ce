"""Write the tables of README and docs from benchmarks/results/*.json, or check that they agree.

    python benchmarks/report.py [--check]

A table stands between ``<!-- table:NAME -->`` and ``<!-- end -->``, in reStructuredText between
``.. begin NAME`` and ``.. end NAME``; nothing in it is typed.
"""

import argparse
import json
import re
import sys

import tables_markdown
import tables_rst
from common import RESULTS

README = RESULTS.parents[1] / "README.md"
DOCS = RESULTS.parents[1] / "docs"
PAGES = [
    README,
    *(DOCS / "guide" / f"{name}.rst" for name in ("scale", "vocabularies", "whole_image")),
]


def filled(text):
    """A page's text with every table made anew."""

    def table(match):
        begin, name, end = match.groups()
        result = json.loads((RESULTS / f"{name}.json").read_text())
        room = tables_markdown if begin.startswith("<") else tables_rst
        kind = name.split("_")[0]  # one function for all data sets
        function = getattr(room, kind if kind in ("poster", "choices") else name)
        return "\n".join([begin, *function(result), end])

    for begin, end in (
        (r"<!-- table:(\w+) -->", "<!-- end -->"),
        (r"\.\. begin (\w+)", r"\.\. end \2"),
    ):
        text = re.sub(rf"({begin})\n.*?({end})", table, text, flags=re.DOTALL)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where the README differs")
    check = parser.parse_args().check
    for page in PAGES:
        text = page.read_text()
        wanted = filled(text)
        if check and wanted != text:
            sys.exit(f"{page} differs from benchmarks/results: run python benchmarks/report.py")
        if not check:
            page.write_text(wanted)


if __name__ == "__main__":
    main()
