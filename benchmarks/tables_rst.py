"""Tables of docs/*.rst from benchmarks/results/*.json: functions of a result, to lines."""

import textwrap


def scale_out(result):
    """What all of ImageNet would cost, in reStructuredText."""
    every, settings, disk = result["all"], result["settings"], result["out_of_core"]
    lines = [".. list-table::", "   :header-rows: 1", ""]

    def row(*cells):
        lines.extend(f"   {'* -' if not index else '  -'} {c}" for index, c in enumerate(cells))

    def costs(seconds):
        hours = seconds * every["images"] / 3600
        return f"{hours:,.0f}" if hours < 1e4 else f"{hours:,.0f} ({hours / 8766:,.0f} years)"

    row("for all images", "patches", "seconds an image", "core-hours", "radii on the disk")
    for case in result["certificates"]:
        kind = "tokens" if case["per_channel"] == "False" else "tokens for all channels' patches"
        row(
            f"patch radii, {case['n_tokens']:,} {kind}",
            f"{case['patches']:,}",
            f"{case['seconds']:.3f}",
            costs(case["seconds"]),
            f"{case['bytes'] * every['images'] / 1e9:,.0f} GB",
        )
    for name, key, count in (
        ("smoothed predictions", "copy", every["copies"]),
        ("certified predictions", "configuration", every["configurations"]),
    ):
        seconds = result["predictions"][key] * count
        kind = "noisy copies" if key == "copy" else "configurations"
        row(f"{name}, {count:,} {kind} each", "", f"{seconds:,.0f}", costs(seconds), "")
    machine = result["environment"]
    extra = disk["out_of_core"] / disk["in_memory"] - 1
    raw = every["images"] * settings["side"] ** 2 * 3 / 1e9
    checked = every["images"] * disk["checksums"] / 3600
    text = (
        f"{every['images']:,} images of {settings['side']} x {settings['side']} pixels in "
        f"{settings['patch_size']} x {settings['patch_size']} patches ({raw:,.0f} GB as bytes), on "
        f"one core of {machine['processor']}: the CPU time of {settings['images']} details of "
        "photographs, the smallest of three repeats, multiplied.  Core-hours divide by the number "
        "of cores as long as the images arrive fast enough.  Predictions are those of a "
        "PatchResNet on the grid of patches; other networks cost what their forward passes "
        f"cost.  Out of core, in chunks of {disk['chunk_size']} images and with "
        f"{disk['megabytes']:,.0f} MB for "
        f"arrays, the CPU time is {100 * abs(extra):.0f} % {'more' if extra > 0 else 'less'} than "
        f"in memory; to look at all checksums of a finished output takes {checked:.1f} hours. "
        f"``python benchmarks/scale_out.py``, torch {machine['torch']}."
    )
    return ["", *lines, "", *textwrap.wrap(text, 98, break_on_hyphens=False), ""]


def scale(result):
    """All patches of MNIST, at once and in batches."""
    rows = [
        (f"``{strategy}``", f"``{how}``", f"{found['seconds']:.0f}", f"{found['error']:.4f}")
        for strategy, ways in result["rows"].items()
        for how, found in ways.items()
    ]
    machine = result["environment"]
    header = ("strategy", "method", "seconds", "mean squared error of a patch")
    return listed(header, rows) + wrapped(
        f"{result['settings']['tokens']} tokens of the 2.9 million 4x4 patches of MNIST, "
        "standardised, one core that was not alone on its machine; the error is that on the test "
        "images; ``partial_fit`` twice over batches of 2,000 images.  ``python "
        f"benchmarks/scale.py``, {machine['processor']}, torch {machine['torch']}."
    )


def denoisers(result):
    """Exemplars of images denoised in several ways."""
    keys = (("error", 2), ("mean_radius", 3), ("accuracy", 1))
    rows = [
        (name, denoiser, *(f"{found[key]:.{digits}f}" for key, digits in keys))
        for name, ways in result["rows"].items()
        for denoiser, found in ways.items()
    ]
    header = ("data", "denoiser", "error", "mean radius", "accuracy %")
    settings = result["settings"]
    return listed(header, rows) + wrapped(
        f"512 exemplars of 4x4 pixels of one channel, {settings['images']:,} training images, "
        f"{settings['epochs']} epochs, validation images, one seed, standardised; the default is "
        "total variation 0.1.  ``python benchmarks/denoisers.py``."
    )


def training(result):
    """Options of a network's training, one at a time."""
    radii = result["radii"]
    rows = [
        (name, f"{row['clean']:.1f}", *(f"{c:.1f}" for c in row["certified"]),
         f"{row['average_radius']:.3f}", f"{row['stopped_by_the_limit']:.0f} %")
        for name, row in result["rows"].items()
    ]  # fmt: skip
    header = ("training", "clean", *(f"{r:g}" for r in radii), "average radius", "limited")
    settings = result["settings"]
    return listed(header, rows) + wrapped(
        f"MNIST, pixels in [0, 1], accuracy and certified accuracy in % on {settings['images']} "
        f"validation images, {settings['epochs']} epochs, one seed, at most "
        f"{settings['configurations']:,} configurations an image; *limited* is the part that this "
        "limit stopped, where the radius might be larger.  ``python benchmarks/training.py``."
    )


def listed(header, rows):
    """A table in reStructuredText."""
    lines = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in (header, *rows):
        lines += [f"   {'* -' if not i else '  -'} {cell}" for i, cell in enumerate(row)]
    return lines


def wrapped(text):
    """A paragraph."""
    return ["", *textwrap.wrap(text, 98, break_on_hyphens=False), ""]
