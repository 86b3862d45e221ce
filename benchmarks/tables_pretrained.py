"""Tables about pretrained networks: functions of a result, as in `tables_models`."""

from tables_models import MARGINS, interval, margin, number


def pretrained(result):
    """What tokens leave of the answers of a pretrained network."""
    header = ("vocabulary", "same answer %", "of the confident %", "mean patch radius",
              "certificate, ms per image")  # fmt: skip

    rows = [
        (name, interval(row["all"]), interval(row["confident"]), number(row["radius"], 1),
         number(row["milliseconds"], 0))
        for name, row in result["rows"].items()
    ]  # fmt: skip
    settings, confident = result["settings"], result["confident"]
    note = (
        f"EfficientNet-lite0, frozen, {confident['of']} crops of six photographs at 224 x 224; the "
        "vocabulary of each photograph is taught by the other five. *Same answer*: the network "
        "answers for tokens what it answers for pixels. It is confident, with a probability above "
        f"{settings['confident']:g}, of {100 * confident['share']:.0f} % of the crops. 95 % "
        "intervals take the crops as independent, which crops of one photograph are not. Radii are "
        "L2, in units of 1/255; *levels* are those of single values, shared by the channels. "
        f"`python benchmarks/pretrained.py`, {result['environment']['processor']}, one thread, "
        "beside other work."
    )
    return header, rows, note


def distilled(result):
    """Levers beside plain vocabularies, behind a pretrained network."""
    header = ("vocabulary", "photographs, same answer %", "of the confident %",
              "wallpapers, same answer %", "of the confident %", "mean patch radius",
              "mean pixel radius")  # fmt: skip
    rows = [
        (name, *(interval(row[part][which]) for part in ("six", "test")
                 for which in ("all", "confident")), number(row["radius"], 1),
         number(row["pixel_radius"], 1) if "pixels" not in name else "")
        for name, row in result["rows"].items()
    ]  # fmt: skip
    settings, sure = result["settings"], result["confident"]
    note = (
        f"EfficientNet-lite0, crops at 224 x 224: {sure['six']['of']} of six photographs and "
        f"{sure['test']['of']} of 20 wallpapers, of which the network is confident, with a "
        f"probability above {settings['confident']:g}, of {100 * sure['six']['share']:.0f} % and "
        f"{100 * sure['test']['share']:.0f} %. Vocabularies and students saw other wallpapers; "
        "how to train was chosen on a third set. *Distilled*: the last five blocks and the head "
        f"are trained, {settings['epochs']} epochs on {result['training']} crops without labels. "
        "*Luminance, differences*: levels of rotated color axes. 95 % intervals take the crops as "
        "independent, which crops of one picture are not. Radii are L2, in units of 1/255. The "
        "pixel radius is the smallest of a pixel's values. `python benchmarks/distilled.py`, "
        f"{result['environment']['processor']}, one seed."
    )
    return header, rows, note


def transfer(result):
    """A network pretrained on ImageNet, on CIFAR-10, beside one that was trained from scratch."""
    header = ("network", "test accuracy %", "validation accuracy %", "mean patch radius",
              "by channel", "training, CPU minutes")  # fmt: skip
    names = {"learned": "*learned tokens, from scratch*"}
    found = sorted(result["rows"].items(), key=lambda item: "radius" in item[1])
    rows = [
        (names.get(name, name), number(row["test"], 2), number(row["validation"], 2),
         number(row.get("radius"), 3),
         ", ".join(number(radius, 3) for radius in row.get("radius_by_channel", ())),
         number(row["cpu_seconds"] / 60, 0) if "cpu_seconds" in row else "")
        for name, row in found
    ]  # fmt: skip
    settings = result["settings"]
    sizes = "; ".join(
        f"{row['side']} pixels {row['validation']:.1f} % in {row['ms_per_image']:.1f} ms per image"
        for row in result["sizes"]
    )
    choices = "; ".join(
        f"{name} {score:.1f} %" for name, score in result.get("choices", {}).items()
    )
    tuned = (
        "*Fine-tuned*: all training images, from that classifier on, "
        f"{settings['epochs']} epoch(s), the last blocks in the first third, then all; minutes "
        "come on top of those of the frozen "
        f"row. After {settings['piece']:,} images, on validation images: {choices}. "
    )
    note = (
        "CIFAR-10. Radii are L2, in units of pixels in [0, 1] of 32 x 32; channels are luminance "
        "and two differences of colors. The row in italics is “learned” of the table on the "
        f"poster, {result['rows']['learned']['seeds']} seeds, trained with token changes. The "
        "others are EfficientNet-lite0 with its weights of ImageNet, images brought to "
        f"{settings['side']} x {settings['side']}, one seed, without token changes. *Frozen*: a "
        f"linear classifier of the features of {settings['linear']:,} images. "
        f"{tuned if choices else ''}Frozen features of {settings['probe']['train']:,} images made "
        f"of tokens, on validation images: {sizes}. {MARGINS} of the test accuracy "
        f"{margin((row['test'] for _, row in found), 10_000)}, of the validation accuracy "
        f"{margin((row['validation'] for _, row in found), 5_000)}. "
        f"`python benchmarks/transfer.py --epochs {settings['epochs']}`, "
        f"{result['environment']['processor']}, two threads, beside other work."
    )
    return header, rows, note
