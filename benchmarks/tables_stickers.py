"""Tables about certificates against stickers: functions of a result, as in `tables_models`."""

from tables_models import DATA, interval, number


def stickers(result, data):
    """Clean and certified accuracy behind masks, over tokens and over pixels."""
    if data not in result["data"]:
        return None
    found = result["data"][data]
    header = ("model", "sticker", "clean %", "certified %", "places %", "joint patch radius",
              "masks", "passes", "certificate, s", "prediction, s")  # fmt: skip
    rows = [
        (name, f"{size}x{size}", interval(row["clean"]), interval(row["certified"]),
         number(100 * row["places"]), number(row["radius"], 3), str(row["masks"]),
         f"{row['passes']:.0f}",
         number(row["seconds_per_certificate"], 3), number(row["seconds_per_prediction"], 3))
        for name, sizes in found["rows"].items() for size, row in sizes.items()
    ]  # fmt: skip
    rows += [
        (f"*{name}*", "5x5", *map(number, row), *[""] * 6)
        for name, row in found["published"].items()
    ]
    settings, machine = found["settings"], found["environment"]
    passes = [*map(str, sorted({settings["epochs"][name] for name in found["rows"]}))]
    passes = " or ".join([", ".join(passes[:-1]), passes[-1]] if passes[1:] else passes)
    note = (
        f"{DATA[data]}, the first {settings['images']:,} test images, one seed, "
        f"{passes} epochs, 95 % intervals. Radii are L2 in [0, 1] pixels. "
        f"`python benchmarks/stickers.py --data {data}`, {machine['gpu'] or machine['processor']}, "
        f"{_threads(machine)} beside other work, torch {machine['torch']}."
    )
    return header, rows, note


def sticker_masks(result, data):
    """Smallest masks against fewer and larger ones on validation images."""
    if data not in result["data"]:
        return None
    found = result["data"][data]
    header = ("model", "sticker", "masks", "largest mask, pixels", "clean %", "certified %",
              "passes", "certificate, s")  # fmt: skip
    rows = [
        (name, f"{size}x{size}", str(row["masks"]), str(row["mask_pixels"]),
         number(100 * row["clean"]["share"]), interval(row["certified"]), f"{row['passes']:.0f}",
         number(row["seconds_per_certificate"], 3))
        for name, sizes in found["masks"].items() for size, several in sizes.items()
        for row in several
    ]  # fmt: skip
    note = (
        f"{DATA[data]}, the first {found['settings']['validation']} validation images, networks of "
        f"the table above. `python benchmarks/stickers.py --data {data}`."
    )
    return header, rows, note


def sticker_attacks(result, data):
    """What an attack leaves of double masking, between the certified and the clean accuracy."""
    if data not in result["data"]:
        return None
    found = result["data"][data]
    header = ("model", "sticker", "clean %", "certified %", "attacked %", "attacked, no masks %",
              "CPU s an image")  # fmt: skip
    rows = [
        (name, f"{size}x{size}",
         *(interval(row[part]) for part in ("clean", "certified", "attacked", "without_masks")),
         number(row["seconds"]))
        for name, sizes in found["rows"].items() for size, row in sizes.items()
    ]  # fmt: skip
    settings, machine = found["settings"], found["environment"]
    note = (
        f"{DATA[data]}, the first {settings['images']} test images, {settings['n_places']} places "
        f"with {settings['steps']} steps of the gradient and of the search each, one seed, 95 % "
        f"intervals. No certified place was broken. "
        f"`python benchmarks/sticker_attacks.py --data {data}`, "
        f"{machine['gpu'] or machine['processor']}, torch {machine['torch']}."
    )
    return header, rows, note


def _threads(machine):
    return "one thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
