"""The page of a report: what was computed comes in, and one file of HTML comes out."""

from __future__ import annotations

import base64
import decimal
import functools
import hashlib
import math

from sklearn_patchcert.displays.report.pixels import palette_css

_DIGITS = 4


def report_page(report):
    """Draw a report as one page of HTML that loads nothing.

    Parameters
    ----------
    report : dict
        As `reporting` makes it.  All text in it is escaped.

    Returns
    -------
    html : str
    """
    from markupsafe import Markup

    environment = _environment()
    script, _, _ = environment.loader.get_source(environment, "report.js")
    script = script.replace("\r\n", "\n")  # as a browser hashes it
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment.get_template("report.html")
    # Only the files beside the template are markup.
    return template.render(
        **report, script=Markup(script), script_hash=allowed, palette=palette_css()
    )


@functools.cache
def _environment():
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sklearn_patchcert.displays.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        radius=radius_text, percent=percent_text, visible=visible, exact=exact_text
    )
    return environment


def radius_text(value):
    """A radius with four digits, rounded down: a page never promises more than was proved.

    Parameters
    ----------
    value : float
        NaN is none.

    Returns
    -------
    text : str
    """
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞"
    if value <= 0:
        return "0"
    exact = decimal.Decimal(float(value))
    unit = decimal.Decimal((0, (1,), exact.adjusted() - _DIGITS + 1))
    rounded = exact.quantize(unit, decimal.ROUND_FLOOR).normalize()
    return f"{rounded:f}" if 1e-3 <= value < 1e9 else f"{rounded:e}"


def exact_text(value):
    """A number to sort by.

    Parameters
    ----------
    value : float

    Returns
    -------
    text : str
        As JavaScript reads numbers, too.
    """
    return "Infinity" if math.isinf(value) else repr(float(value))


def percent_text(share, way="near"):
    """A share in per cent.

    Parameters
    ----------
    share : float
    way : {"near", "down", "up"}
        How to round.

    Returns
    -------
    text : str
    """
    tenths = round(1000 * share, 6)  # 0.29 is 290 tenths of a per cent, not a little less
    whole = {"near": round(tenths), "down": math.floor(tenths), "up": math.ceil(tenths)}[way]
    return f"{whole / 10:.1f} %"


def visible(text):
    """Text in which every character is seen.

    Parameters
    ----------
    text : str
        A file name can hold control characters, marks that turn the direction of writing, and
        bytes that are not UTF-8.

    Returns
    -------
    text : str
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
