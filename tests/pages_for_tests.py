"""What a test reads from a page of HTML."""

import re
from html.parser import HTMLParser

HOSTILE = [
    "<script>alert(1)</script>.png",
    "\"><img src=x onerror=alert(1)>'.png",
    "{{7*7}}{% raw %}.png",
    "'\"&amp;`$.png",
    "\u202egnp.exe",
    "bytes-\udcff.png",
    "new\nline\0.png",
    "javascript:alert(1)",
    "</style></title><svg onload=alert(1)>",
    "é 猫 🐈.png",
    "x" * 300,
]


class Page(HTMLParser):
    """The elements of a page, the text of its table cells, and all of its text."""

    def __init__(self, html):
        super().__init__()
        self.html, self.elements, self.text, self.ids = html, [], [], set()
        self.rows, self.inside, self.in_cell = [], None, False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.elements.append((tag, found))
        self.ids.add(found.get("id"))
        if tag == "table":
            self.inside = found.get("id")
        if self.inside == "table":
            if tag == "tr":
                self.rows.append([])
            if tag in ("td", "th"):
                self.rows[-1].append("")
                self.in_cell = True

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        if tag == "table":
            self.inside = None
        if tag in ("td", "th") and self.inside == "table":
            self.in_cell = False

    def handle_data(self, data):
        self.text.append(data)
        if self.in_cell:
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def faults(html):
    """Why a page could load something, or run something that is not its own script."""
    page, found = Page(html), []
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            value = value or ""
            if name.startswith("on"):
                found.append(f"{tag} has {name}")
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                inside = value.startswith("#") and value[1:] in page.ids
                if not (inside or value.startswith("data:image/")):
                    found.append(f"{tag} loads {value[:40]}")
    scripts = [tag for tag, _ in page.elements if tag == "script"]
    if len(scripts) != 1 or html.count("<script") != 1:
        found.append(f"{len(scripts)} scripts")
    extra = {"iframe", "object", "embed", "link", "base", "form"} & {t for t, _ in page.elements}
    found += [f"there is a {tag}" for tag in extra]
    found += re.findall(r"https?://[^\s\"'<]*|@import|url\([^)]*", html)
    policy = [one.get("content", "") for one in page.all("meta")
              if one.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
    if not policy or "default-src 'none'" not in policy[0]:
        found.append("no policy")
    return found
