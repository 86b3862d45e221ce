"""Tables about time and memory of networks: functions of a result, as in `tables_models`."""

from tables_models import number

HALF = {True: "bfloat16", False: "float32"}


def training_memory(result):
    """Memory and time of a pass over large pictures."""
    header = ("pictures", "peak, GiB", "one epoch, s", "images at once")
    rows = [
        (
            name,
            number(row["peak_gib"], 2),
            number(row["seconds"], 1),
            number(row.get("images_at_once"), 0),
        )
        for name, row in result["rows"].items()
    ]
    settings = result["settings"]
    busy = settings.get("load_at_start", 0) > result["environment"]["cores"]
    note = (
        f"Color pictures, the peak of the whole process, rounds: {settings['repeats']}. "
        + "The machine had other work, so the times cannot be compared. " * busy
        + "*Stride 1* is the default network without its stride, *whole batches* have "
        "`working_memory=None`. Where no images at once are given, batches of 128 are whole. "
        "`python benchmarks/training_memory.py`, "
        f"{result['environment']['processor']}."
    )
    return header, rows, note


def flip_choice(result):
    """Times of a compiled choice of flips, of those of operations on tensors."""
    header = ("tokens", "time", "ms per image", "gain")
    settings, machine = result["settings"], result["environment"]
    rows = [
        (name, f"{row['ratio']:.3f} ({row['from']:.3f} to {row['to']:.3f})",
         f"{1000 * row['loop'] / settings['images']:.2f}", f"{row['gain']:.4f}")
        for name, row in result["rows"].items()
    ]  # fmt: skip
    note = (
        "The time and the gain of the compiled loop, as multiples of those of operations on whole "
        f"tensors: medians of {settings['repeats']} turns, and quartiles. Random patches, tokens "
        f"and gradients, {settings['images']} images, threads: {settings['threads']}. `python "
        f"benchmarks/flip_choice.py`, {machine['processor']}, torch {machine['torch']}."
    )
    return header, rows, note


def layouts(result):
    """Times of networks whose weights have the channels last, of those of the usual layout."""
    header = ("network", "numbers", "training", "prediction")
    kinds = {(row["network"], row["half"]): {} for row in result["rows"]}
    for row in result["rows"]:
        cell = f"{row['ratio']:.2f} ({row['from']:.2f} to {row['to']:.2f})"
        kinds[row["network"], row["half"]][row["step"]] = cell
    rows = [
        (network, HALF[half], cells["trained"], cells["predicted"])
        for (network, half), cells in kinds.items()
    ]
    settings, machine = result["settings"], result["environment"]
    note = (
        f"The time with the channels last, as a multiple of the time in the usual layout: medians "
        f"of {settings['repeats']} turns, and quartiles. Batches of {settings['batch']} images, "
        f"threads: {settings['threads']}. `python benchmarks/layouts.py`, {machine['processor']}, "
        f"torch {machine['torch']}."
    )
    return header, rows, note
