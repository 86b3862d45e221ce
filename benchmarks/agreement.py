"""Rules by which a figure that was measured again agrees with a published one.

Each rule returns a dict with the figure, both values, the tolerance in words, the verdict and the
reason for that tolerance.  The verdicts are `AGREES`, `DIFFERS` and `NOT_COMPARABLE`.  A figure for
which no tolerance can be justified is not compared at all, whatever its value is.
"""

import math

from scipy.stats import fisher_exact

AGREES, DIFFERS, NOT_COMPARABLE = "agrees", "DIFFERS", "not comparable"
CHANCE = 0.01  # two shares differ if Fisher's exact test finds less


def _found(figure, published, again, rule, fine, why):
    verdict = NOT_COMPARABLE if fine is None else AGREES if fine else DIFFERS
    return {"figure": figure, "published": published, "again": again, "rule": rule,
            "verdict": verdict, "why": why}  # fmt: skip


def equal(figure, published, again, why):
    """The same number, for counts and sizes that nothing random decides."""
    return _found(figure, published, again, "equal", bool(published == again), why)


def close(figure, published, again, percent, why):
    """A relative difference of at most so many per cent of the published figure."""
    fine = math.isfinite(again) and abs(again - published) <= percent / 100 * abs(published)
    return _found(figure, published, again, f"within {percent:g} %", fine, why)


def near(figure, published, again, below, above, why):
    """At most `below` less and at most `above` more than the published figure."""
    fine = -below <= again - published <= above
    return _found(figure, published, again, f"-{below:g} to +{above:g}", bool(fine), why)


def factor(figure, published, again, times, why):
    """At most so many times as large or as small, for times on other machines."""
    fine = again > 0 and published / times <= again <= published * times
    return _found(figure, published, again, f"factor {times:g}", bool(fine), why)


def shares(figure, published, of, again, among, why):
    """Two shares of images in %, which Fisher's exact test does not tell apart."""
    tables = [[hits, n - hits] for share, n in ((published, of), (again, among))
              for hits in [round(share * n / 100)]]  # fmt: skip
    chance = float(fisher_exact(tables).pvalue)
    rule = f"Fisher's test, p >= {CHANCE:g}, n = {of:,} and {among:,}"
    return _found(figure, published, again, rule, chance >= CHANCE, f"{why} (p = {chance:.2g})")


def ordered(figure, published, again, why):
    """The larger of two figures is the same in both measurements; each is a pair."""
    (low, high), (low_again, high_again) = published, again
    if low == high:
        raise ValueError(f"{figure}: the published figures tie, so they have no order.")
    fine = low_again != high_again and (low < high) == (low_again < high_again)
    return _found(figure, list(published), list(again), "same order", fine, why)


def none(figure, published, again, why):
    """Zero in both, for counts of what a proof excludes."""
    return _found(figure, published, again, "0", published == 0 == again, why)


def apart(figure, published, again, why):
    """Shown beside each other and not compared."""
    return _found(figure, published, again, "-", None, why)


def cells(table, other):
    """Compare two tables of benchmarks/report.py cell by cell, for full runs.

    Percentages may differ by three standard deviations or 2 points, other numbers by three
    standard deviations or 5 %.  Times are shown and not compared.
    """
    (header, rows, *_), (_, found, *_) = table, other
    again, checks = _numbered(found), []
    for place, row in _numbered(rows).items():
        if row[0].startswith("*"):  # quoted from a publication
            continue
        for column, (name, cell) in enumerate(zip(header[1:], row[1:], strict=True), 1):
            figure = f"{row[0]}: {name}"
            mean, std = numbers(cell)
            if mean is None:
                continue
            if place not in again:
                checks.append(_found(figure, mean, None, "present", False, "the row is missing"))
                continue
            mean_again, std_again = numbers(again[place][column])
            widest = 3 * math.hypot(std, std_again)
            if mean_again is None:
                checks.append(_found(figure, mean, None, "present", False, "no figure"))
            elif any(word in name for word in ("second", "time", ", s", "ms", "µs", "faiss")):
                checks.append(apart(figure, mean, mean_again, "a time of another machine"))
            elif "%" in name or name == "clean" or name[0].isdigit():
                points = max(2.0, widest)
                checks.append(near(figure, mean, mean_again, points, points, "the same command"))
            else:
                percent = max(5.0, 100 * widest / abs(mean) if mean else 0.0)
                checks.append(close(figure, mean, mean_again, percent, "the same command"))
    return checks


def _numbered(rows):
    """Rows by their first cell and how often it came before."""
    seen: dict = {}
    for row in rows:
        place = row[0], sum(name == row[0] for name, _ in seen)
        seen[place] = row
    return seen


def numbers(cell):
    """The first number of a cell and the standard deviation after it, or 0; None if it has none."""
    first, _, rest = cell.replace(",", "").partition(" ± ")
    try:
        return float(first.split()[0]), float(rest) if rest else 0.0
    except (IndexError, ValueError):
        return None, 0.0
