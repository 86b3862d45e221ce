"""Tables about vocabularies, time and soundness: functions of a result, as in `tables_models`."""

from statistics import median

from tables_models import DATA, MARGINS, margin, number, spread

VALIDATION = {"mnist": 10_000, "fashion_mnist": 10_000, "cifar10": 5_000}  # images


def ablations(result, data):
    """Each option of a learned vocabulary beside the finding of the poster."""
    diverse = "slightly more diverse token usage"
    findings = {
        "tokens by channel": "better preservation of fine structure",
        "soft discretisation": diverse,
        "entropy": diverse,
        "structure": "faster convergence, reconstructions not significantly better",
        "noise": diverse,
    }
    names = {
        "soft discretisation": "soft discretization",
        "all of the poster's": "all options of the poster",
    }
    header = ("option", "error", "perplexity", "perplexity, random start", "Sobel error",
              "patch radius", "accuracy %", "steps", "poster")  # fmt: skip
    keys = ("error", "perplexity", "random_perplexity", "sobel_error", "mean_radius")
    rows = []
    for name, row in result["rows"][data].items():
        steps = row.get("steps")
        missed = steps is not None and steps["mean"] == float("inf")
        rows.append((
            names.get(name, name),
            *(spread(row.get(key)) for key in keys), spread(row["accuracy"], 1),
            "not reached" if missed else spread(steps, 0), findings.get(name, ""),
        ))  # fmt: skip
    settings = result["settings"]
    note = (
        f"{DATA[data]}, {settings['n_tokens']} tokens of 4x4 pixels of one channel, "
        f"{settings['images']:,} training images, validation images, mean ± standard deviation "
        f"over {settings['seeds']} seeds. `python benchmarks/ablations.py`."
    )
    return header, rows, note


def pareto(result, data):
    """The fronts of accuracy against mean and summed radii, and other networks."""
    header = ("vocabulary", "accuracy %", "patch radius", "sum of patch radii", "on the front of")
    radius, total, accuracy = result["poster"][data]
    rows = [("*poster, learned (test set)*", f"{accuracy}", f"{radius}", f"{total}", "")]
    fronts = {"front_mean_radius": "radius", "front_summed_radius": "sum"}
    for row in sorted(result["rows"][data], key=lambda row: row["mean_radius"]):
        on = [label for key, label in fronts.items() if row.get(key)]
        if on or "module" in row["options"]:
            rows.append((
                f"{row['group']}, {row['options']['n_tokens']} tokens",
                number(row["accuracy"], 2), number(row["mean_radius"], 3),
                number(row["summed_radius"]), ", ".join(on),
            ))  # fmt: skip
    settings = result["settings"]
    note = (
        f"{DATA[data]}, validation images, {settings['images']:,} training images, "
        f"{settings['epochs']} epochs, one seed, standardized pixels. {MARGINS} of the accuracy "
        f"{margin((row['accuracy'] for row in result['rows'][data]), VALIDATION[data])}. The JSON "
        f"file has all {len(result['rows'][data])} candidates. `python benchmarks/pareto.py`."
    )
    return header, rows, note


def denoisers(result):
    """Exemplars of images denoised in several ways."""
    header = ("data", "denoiser", "error", "patch radius", "accuracy %")
    rows = [
        (DATA[data], denoiser, number(found["error"], 2), number(found["mean_radius"], 3),
         number(found["accuracy"]))
        for data, ways in result["rows"].items()
        for denoiser, found in ways.items()
    ]  # fmt: skip
    settings = result["settings"]
    note = (
        f"512 exemplars of 4x4 pixels of one channel, {settings['images']:,} training images, "
        f"{settings['epochs']} epochs, validation images, one seed, standardized pixels. The "
        "default is total variation 0.1. `python benchmarks/denoisers.py`."
    )
    return header, rows, note


def training(result):
    """Options of the training of a network, one at a time."""
    header = ("training", "clean", *(f"{radius:g}" for radius in result["radii"]),
              "average radius", "stopped by the budget")  # fmt: skip
    rows = [
        (name, number(row["clean"]), *map(number, row["certified"]),
         number(row["average_radius"], 3), f"{row['stopped_by_the_limit']:.0f} %")
        for name, row in result["rows"].items()
    ]  # fmt: skip
    settings = result["settings"]
    shares = [
        value for row in result["rows"].values() for value in (row["clean"], *row["certified"])
    ]
    note = (
        "MNIST, [0, 1] pixels, accuracy and certified accuracy in % on "
        f"{settings['images']} validation images, {settings['epochs']} epochs, one seed, at most "
        f"{settings['configurations']:,} token assignments per image. *Stopped by the budget* is "
        "the share of images whose radius a longer search might enlarge. "
        f"{MARGINS} {margin(shares, settings['images'])}. `python "
        "benchmarks/training.py`."
    )
    return header, rows, note


def certify(result):
    """Time of tokens and radii beside that of nearest-neighbor searches."""
    header = ("tokens", "threads", "ours, µs per patch", "faiss, nearest", "faiss, two nearest",
              "scikit-learn, nearest", "plain torch, radii")  # fmt: skip
    rows = []
    for row in result["rows"]:
        if row["dim"] == 16:
            times = {key: time["median"] for key, time in row["microseconds_per_patch"].items()}
            others = (times.get(name) for name in ("top1", "top2", "argmin", "naive"))
            rows.append((
                f"{row['n_tokens']:,}", str(row["threads"]), number(times["ours"], 3),
                *("" if time is None else f"{time / times['ours']:.3g} x" for time in others),
            ))  # fmt: skip
    fit = "; ".join(
        f"{n_tokens} tokens {median(row['seconds']):.2f} s (MiniBatchKMeans "
        f"{median(row['minibatch_seconds']):.2f} s, faiss {median(row['faiss_seconds']):.2f} s)"
        for n_tokens, row in result["fit"].items()
    )
    memory, machine = result["memory"], result["environment"]
    note = (
        "4x4 patches of CIFAR-10. The times of the others are multiples of ours, medians of "
        f"{result['settings']['rounds']} rounds whose quartiles are at most {_apart(result):.0f} % "
        "from them. k-means of "
        f"200,000 patches to the error of the MiniBatchKMeans of scikit-learn takes: {fit}. "
        f"Working memory for {memory['patches']:,} patches: {memory['megabytes']:.0f} MB. "
        f"`python benchmarks/certify.py --rounds {result['settings']['rounds']}`, "
        f"{machine['processor']}, faiss {result['faiss']}, torch {machine['torch']}, scikit-learn "
        f"{machine['scikit-learn']}."
    )
    return header, rows, note


def _apart(result):
    """The quartile farthest from its median among the times of the table, in %."""
    times = (time for row in result["rows"] if row["dim"] == 16
             for time in row["microseconds_per_patch"].values())  # fmt: skip
    return max(
        100 * abs(time[end] / time["median"] - 1) for time in times for end in ("low", "high")
    )


def kmeans(result):
    """Time, memory and error of k-means as multiples of those of faiss."""

    def times(value):
        low, high = value["quartiles"]
        spread = f" ({low:.2f} to {high:.2f})" if low < high else ""
        return f"{value['median']:.2f}{spread}"

    keys = ("seconds", "cpu", "MiB", "error")
    header = (
        "numbers",
        "patches",
        "tokens",
        "steps",
        "seconds",
        *(f"{key} / faiss" for key in keys),
    )
    rows = [
        (str(row["numbers"]), f"{row['patches']:,}", f"{row['tokens']:,}", str(row["steps"]),
         number(median(run["seconds"] for run in row["runs"]["ours"]), 1),
         *(times(row["ratios"][key]) for key in keys))
        for row in result["rows"]
    ]  # fmt: skip
    nets = " and ".join(
        f"{net['exponent']:.2f} for {dim} numbers (up to {net['rows'][-1]['tokens']:,} exemplars)"
        for dim, net in result["exemplars"].items()
    )
    most, machine = result["exemplars"]["12"]["rows"][-1]["patches"], result["environment"]
    return header, rows, (
        "Patches of CIFAR-10 with 2x2 and 4x4 pixels in three colors. Times, which include the "
        "first tokens, the peak of the memory besides the patches and the error on 50,000 patches "
        "of other images are multiples of those of faiss's KMeans after the same number of steps "
        f"on the same patches; {result['settings']['threads']} threads. The time to choose "
        "exemplars at a fixed distance grows with the number of patches, up to "
        f"{most:,}, to the power of {nets}. `python benchmarks/kmeans.py --whole --rounds "
        f"{result['settings']['rounds']}`, "
        f"{machine['processor']}, faiss {result['faiss']}, torch {machine['torch']}."
    )  # fmt: skip


def certify_images(result):
    """Time of calls on images as multiples of the engine's and of faiss's, with quartiles."""
    names = {
        "engine": "engine, patches cut before",
        "certify": "`certify`, float32",
        "certify float64": "`certify`, float64",
        "certify uint8": "`certify`, 8 bits",
        "tokenize": "`tokenize`, float32",
        "transform": "`transform`, float32",
        "faiss": "faiss, nearest token",
        "scikit-learn": "scikit-learn, nearest token",
    }

    def times(value):
        low, high = value["quartiles"]
        return f"{value['median']:.2f} ({low:.2f} to {high:.2f})"

    header = ("tokens", "call", "ms", "of the engine's time", "of faiss's time")
    rows = [
        (f"{size['n_tokens']:,}", name, number(size["rows"][key]["seconds"]["median"] * 1e3, 1),
         times(size["rows"][key]["of engine"]), times(size["rows"][key]["of faiss"]))
        for size in result["sizes"] for key, name in names.items()
    ]  # fmt: skip
    peaks, machine = result["peak megabytes besides the result"], result["environment"]
    most = {
        dtype: max(peak for name, peak in peaks.items() if f" {dtype} " in name)
        for dtype in ("uint8", "float16", "float32", "float64")
    }
    note = (
        f"{result['settings']['images']:,} images of CIFAR-10, 192 patches of 4x4 pixels of one "
        "channel each, one thread. Ratios are of times in the same round, median and quartiles; "
        "float64 is compared with the engine in float64. The times of faiss and scikit-learn "
        "include the cutting into patches. Peak memory besides the result, in memory or mapped: "
        + ", ".join(f"{dtype} {peak:.1f} MB" for dtype, peak in most.items())
        + f" (the images have {result['megabytes of the images in uint8']:.1f} MB in 8 bits). "
        f"`python benchmarks/certify_images.py`, {machine['processor']}, faiss "
        f"{result['faiss']}, scikit-learn {machine['scikit-learn']}."
    )
    return header, rows, note


def reading(result):
    """Photos a second, and the time as a multiple of torchvision's, round by round."""
    seconds, count = result["seconds"], result["settings"]["pictures"]
    names = {
        "torchvision": "torchvision, `ImageFolder` in a `DataLoader`",
        "batches": "`ImageReader`, batch by batch",
        "whole": "`ImageReader`, one array of all",
    }
    rows = []
    for name, label in names.items():
        ratio = result["ratio_to_torchvision"].get(name)
        between = "" if ratio is None else " ({:.2f} to {:.2f})".format(*ratio["quartiles"])
        times = "1" if ratio is None else f"{ratio['median']:.2f}{between}"
        rows.append([label, f"{count / seconds[name]['median']:.0f}", times])
    settings = result["settings"]
    width, height = settings["size"]
    note = (
        f"{count:,} JPEG files of {width} x {height} pixels, brought to {settings['image_size']} x "
        f"{settings['image_size']} by {settings['jobs']} threads or workers. Medians of "
        f"{settings['rounds']} rounds that alternate, with quartiles of the ratios; beside them "
        f"ran {result['beside']}. `python benchmarks/reading.py --rounds {settings['rounds']}`, "
        f"{result['environment']['processor']}."
    )
    return ["reader", "photos a second", "time, as a multiple of torchvision's"], rows, note


def scale(result):
    """All patches of MNIST, at once and in batches."""
    header = ("strategy", "method", "seconds", "mean squared error of a patch")
    rows = [
        (f"`{strategy}`", f"`{how}`", number(found["seconds"], 0), number(found["error"], 4))
        for strategy, ways in result["rows"].items()
        for how, found in ways.items()
    ]
    machine = result["environment"]
    note = (
        f"{result['settings']['tokens']} tokens of the 2.9 million 4x4 patches of MNIST, "
        "standardized, on one core of a machine with other work. The error is on the test images. "
        "`partial_fit` went twice through batches of 2,000 images. `python "
        f"benchmarks/scale.py`, {machine['processor']}, torch {machine['torch']}."
    )
    return header, rows, note


def scale_out(result):
    """The cost of all of ImageNet."""
    every, settings, disk = result["all"], result["settings"], result["out_of_core"]

    def costs(seconds):
        hours = seconds * every["images"] / 3600
        return f"{hours:,.0f}" if hours < 1e4 else f"{hours:,.0f} ({hours / 8766:,.0f} years)"

    header = ("for all images", "patches", "seconds per image", "core-hours", "radii on disk")
    rows = []
    for case in result["certificates"]:
        kind = "tokens" if case["per_channel"] == "False" else "tokens shared by the channels"
        rows.append((
            f"patch radii, {case['n_tokens']:,} {kind}", f"{case['patches']:,}",
            number(case["seconds"], 3), costs(case["seconds"]),
            f"{case['bytes'] * every['images'] / 1e9:,.0f} GB",
        ))  # fmt: skip
    for name, key, plural, kind in (
        ("smoothed predictions", "copy", "copies", "noisy copies"),
        ("certified predictions", "configuration", "configurations", "token assignments"),
    ):
        seconds = result["predictions"][key] * every[plural]
        label = f"{name}, {every[plural]:,} {kind} each"
        rows.append((label, "", f"{seconds:,.0f}", costs(seconds), ""))
    machine, side, patch = result["environment"], settings["side"], settings["patch_size"]
    extra = disk["out_of_core"] / disk["in_memory"] - 1
    note = (
        f"{every['images']:,} images of {side}x{side} pixels in {patch}x{patch} patches "
        f"({every['images'] * side**2 * 3 / 1e9:,.0f} GB as bytes), on one core of "
        f"{machine['processor']}. The figures are the CPU time of {settings['images']} details of "
        "photographs, the smallest of three repeats, multiplied. Core-hours divide by the number "
        "of cores as long as the images arrive fast enough. Predictions are those of a PatchResNet "
        "on the grid of patches; other networks cost what their forward passes cost. Out of core, "
        f"in chunks of {disk['chunk_size']} images and with {disk['megabytes']:,.0f} MB for "
        f"arrays, the CPU time is {100 * abs(extra):.0f} % {'more' if extra > 0 else 'less'} than "
        f"in memory. `python benchmarks/scale_out.py`, torch {machine['torch']}."
    )
    return header, rows, note


def soundness(result):
    """Attacks on the patch certificate, in a few sentences."""
    reach = {
        dtype: 1 - median(row["median_part_of_the_radius"] for row in result["rows"]
                          if row["dtype"] == dtype)
        for dtype in ("float32", "float64")
    }  # fmt: skip
    note = (
        f"{result['inside']:,} adversarial and random perturbations inside a radius, in all norms, "
        f"dtypes and engines, changed {result['changed']} tokens. The median perturbation to the "
        f"nearest cell boundary uses the radius up to a relative gap of {reach['float64']:.0e} in "
        f"float64 and {reach['float32']:.0e} in float32. One part in a thousand beyond the radius, "
        f"{100 * result['changed_beyond'] / result['beyond']:.2f} % of {result['beyond']:,} tokens "
        "change. `python benchmarks/soundness.py --part patches`."
    )
    return (), [], note


def predictions(result):
    """Attacks on the certificates of predictions, by what follows the tokens."""
    lead = (
        f"{result['tries']:,} perturbations inside the certified radius of a prediction changed "
        f"{result['changed']} predictions. Each row is a kind of model after the tokens. *Tries* "
        "counts the perturbations, and *changed* counts the predictions that they changed."
    )
    header = ("after the tokens", "tries", "changed", "certified images", "median radius")
    rows = [
        (row["composition"], f"{row['tries']:,}", str(row["changed"]),
         "refused" if row["refused"] else f"{row['certified']} of {row['images']}",
         number(row["median_radius"], 3))
        for row in result["rows"]
    ]  # fmt: skip
    note = (
        f"The library refuses {result['refused']} of the "
        f"{len(rows)} models, in which rounding alone decides some answers. Digits, units of X. "
        "`python benchmarks/soundness.py --part predictions`."
    )
    return header, rows, note, lead
