"""The picture of the wings, drawn from the imports of the sources, so that it cannot drift.

Sphinx calls :func:`setup`; ``python docs/_ext/wings.py`` prints the picture as text.
"""

from __future__ import annotations

import ast
import html
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "sklearn_patchcert"
WIDTH, HEIGHT, THIN, GAP_X, GAP_Y, MARGIN = 140, 36, 8, 20, 44, 20  # in pixels


def wing_of(path, package=PACKAGE):
    """The wing of a source file: its folder, or its own name where it is not in a folder."""
    return Path(path).relative_to(package).with_suffix("").parts[0]


def imported(text):
    """Wings that a source imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "sklearn_patchcert":
            names += [f"sklearn_patchcert.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "sklearn_patchcert" and len(part) > 1}


def arrows(package=PACKAGE):
    """Wings, and the wings that each imports: a dict of name to set of names."""
    found: dict = {}
    for path in sorted(package.rglob("*.py")):
        wing = wing_of(path, package)
        if wing not in ("__init__", "__main__"):  # the front doors of the house import nearly all
            found.setdefault(wing, set()).update(imported(path.read_text(encoding="utf-8")))
    return {wing: below - {wing} for wing, below in found.items()}


def floors(arrows):
    """The floor of each wing: one above the highest wing that it imports, from 0."""
    found: dict = {}

    def floor(wing, above=()):
        if wing in above:
            raise ValueError(f"The imports go in a circle: {' -> '.join([*above, wing])}.")
        if wing not in found:
            found[wing] = max((floor(w, (*above, wing)) + 1 for w in arrows[wing]), default=0)
        return found[wing]

    for wing in arrows:
        floor(wing)
    return found


def needed(arrows):
    """The same without the arrows that follow from others."""

    def below(wing):
        return arrows[wing].union(*(below(other) for other in arrows[wing]))

    return {
        wing: direct - set().union(*(below(other) for other in direct))
        for wing, direct in arrows.items()
    }


def rows_of(shown, floor):
    """Rows from the ground up, and the links between neighboring rows.

    An arrow that passes a floor gets a point there, a tuple, so that it is led around the wings.
    """
    rows: list = [[] for _ in range(max(floor.values()) + 1)]
    links: list = []
    for wing in sorted(shown):
        rows[floor[wing]].append(wing)
        for other in sorted(shown[wing]):
            upper = wing
            for passed in range(floor[wing] - 1, floor[other], -1):
                rows[passed].append((wing, other, passed))
                links.append((upper, rows[passed][-1]))
                upper = rows[passed][-1]
            links.append((upper, other))
    for sweep in range(12):  # each near the middle of its neighbors, from above and from below
        for row in rows if sweep % 2 else rows[::-1]:
            place = {node: (i + 0.5) / len(r) for r in rows for i, node in enumerate(r)}
            near = {
                n: [place[o] for pair in links if n in pair for o in pair if o != n] for n in row
            }
            row.sort(key=lambda n: sum(near[n]) / len(near[n]) if near[n] else place[n])
    return rows, links


def drawn(arrows):
    """The picture as SVG: a row for each floor, and an arrow from each wing to what it imports.

    Modules with an underscore are left out: all wings may import them.
    """
    floor, shown = floors(arrows), needed(arrows)
    shown = {
        wing: {other for other in below if not other.startswith("_")}
        for wing, below in shown.items()
        if not wing.startswith("_")
    }
    rows, links = rows_of(shown, {wing: floor[wing] for wing in shown})
    sizes = [[WIDTH if isinstance(node, str) else THIN for node in row] for row in rows]
    wide = [sum(row) + GAP_X * (len(row) - 1) for row in sizes]
    width = max(wide) + 2 * MARGIN
    height = len(rows) * (HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    at, boxes = {}, []
    for level, row in enumerate(rows):
        x, y = (width - wide[level]) / 2, height - MARGIN - HEIGHT / 2 - level * (HEIGHT + GAP_Y)
        for node, size in zip(row, sizes[level], strict=True):
            at[node] = x + size / 2, y
            x += size + GAP_X
            if isinstance(node, str):
                folder = (PACKAGE / node).is_dir()
                left, fill = at[node][0] - WIDTH / 2, "#dbe9f6" if folder else "#f2f2f2"
                name = html.escape(node) + ("/" if folder else ".py")
                boxes.append(
                    f'<rect x="{left:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" '
                    f'height="{HEIGHT}" rx="6" fill="{fill}"/>'
                    f'<text x="{at[node][0]:.0f}" y="{y + 5:.0f}">{name}</text>'
                )
    lines = []
    for upper, lower in links:
        (x, y), (to_x, to_y) = at[upper], at[lower]
        ends = isinstance(lower, str)
        start, end = y + HEIGHT / 2, to_y - HEIGHT / 2 - (4 if ends else 0)
        middle = (start + end) / 2
        through = "" if ends else f" V{to_y + HEIGHT / 2:.0f}"
        tip = ' marker-end="url(#tip)"' if ends else ""
        lines.append(
            f'<path d="M{x:.0f},{start:.0f} C{x:.0f},{middle:.0f} {to_x:.0f},{middle:.0f} '
            f'{to_x:.0f},{end:.0f}{through}"{tip}/>'
        )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="14">',
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#777"/></marker>',
            "</defs>",
            '<g fill="none" stroke="#777" stroke-width="1.2">',
            *lines,
            '</g><g stroke="none" text-anchor="middle">',
            *boxes,
            "</g></svg>",
        ]
    )


def listed(arrows):
    """The picture as text: from the top floor down, each wing and what it imports."""
    floor, lines = floors(arrows), []
    for wing in sorted(arrows, key=lambda w: (-floor[w], w)):
        lines.append(f"{floor[wing]}  {wing:16} {', '.join(sorted(arrows[wing])) or '-'}")
    return "\n".join(lines)


def write(app):
    """Draw the picture where the page of the developers shows it."""
    path = Path(app.srcdir) / "generated" / "wings.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(drawn(arrows()) + "\n", encoding="utf-8")


def setup(app):
    """Sphinx asks for this."""
    app.connect("builder-inited", write, priority=0)
    return {"version": "1", "parallel_read_safe": True}


if __name__ == "__main__":
    print(listed(arrows()))
