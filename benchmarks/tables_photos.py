"""Tables about pictures at photo size: functions of a result, as in `tables_models`."""

from statistics import median


def photo_size(result):
    """Certified predictions of photographs with a token for each pixel and channel."""
    stages, machine = result["stages"], result["environment"]
    small, large = [], []
    for row in stages["forward"]["rows"]:
        (small if row["network"] == "model" else large).append(row)
    shares = {
        at: " to ".join(
            f"{row['percent']['mean']:.0f}" for row in small if (row["side"], row["tokens"]) == at
        )
        for at in {(row["side"], row["tokens"]) for row in small}
    }
    header = ("pixels", "tokens", "patches", "costs and preparation", "loop over patches, before",
              "time in the network")  # fmt: skip
    rows = []
    for row in stages["costs"]["rows"]:
        share = shares.get((row["side"], row["tokens"]))
        loop = row["loop_seconds_per_patch"]["mean"] * row["patches"]
        rows.append((
            f"{row['side']}x{row['side']}", f"{row['tokens']}", f"{row['patches']:,}",
            f"{median(row['seconds']['values']):.3f} s", f"{loop:,.1f} s",
            f"{share} %" if share else "",
        ))  # fmt: skip
    tried = sorted({row["assignments"] for row in small})
    kept = [
        f"{one['images']} of {one['side']}x{one['side']} with `max_seconds={one['max_seconds']:g}` "
        f"took {one['seconds']:.1f} s"
        for one in stages["limits"]["rows"]
    ]
    whole = stages["total"]["rows"][0]
    slopes = ", ".join(
        f"{slope['mean']:.2f} with {n_tokens} tokens"
        for n_tokens, slope in stages["costs"]["exponents"].items()
    )
    note = (
        f"Medians of {result['settings']['repeats']} crops of photographs on {machine['processor']}"
        f", {machine['cores']} cores. The loop was run on {stages['costs']['rows'][0]['patches']:,}"
        " patches of each image and multiplied. CPU time grows with the number of patches to the "
        f"power of {slopes}. The network is a small PatchConvNet, with "
        f"{' to '.join(f'{n:,}' for n in tried)} assignments. A network of "
        f"{large[0]['milliseconds_per_pass']['mean']:.0f} ms a pass has "
        f"{large[0]['percent']['mean']:.0f} % of the time with {large[0]['assignments']} "
        f"assignments. Time limits: {', '.join(kept)}; "
        f"{whole['images']} of {whole['side']}x{whole['side']} with "
        f"`max_total_seconds={whole['max_total_seconds']:g}` took {whole['seconds']:.1f} s. "
        f"`python benchmarks/photo_size.py`, torch {machine['torch']}."
    )
    return header, rows, note


def photo_attacks(result):
    header = ["image", "tokens", "seconds", "fastest and slowest", "network's share", "prices, s"]
    rows, notes = [], []
    for n, part in result["tokens"].items():
        for row in part["rows"]:
            took, side = row["attack"], row["side"]
            rows.append([
                f"{side} x {side} x 3", n, f"{took['median']:.2f}",
                f"{took['fastest']:.2f} to {took['slowest']:.2f}",
                f"{100 * row['network']['median']:.0f} %", f"{row['prices']['median']:.3f}",
            ])  # fmt: skip
        notes.append(
            f"With {n} tokens the time grows with the number of patches to the power of "
            f"{part['exponent']:.2f}, and pricing the flips of the smallest image patch by patch "
            f"takes {part['former_by_new']['median']:.0f} times as long."
        )
    how = (
        "Seconds that a search over tokens takes for one image that withstands it, with a token "
        "for each value of each pixel, on "
    )
    where = result["environment"]
    note = (
        f"{where['processor']}, {where['threads']} threads. `python benchmarks/photo_attacks.py`."
    )
    return header, rows, " ".join([how + note, *notes])
