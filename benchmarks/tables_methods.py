"""The table of methods by question, made of several results as the headline is."""

from tables_models import at_radius, interval_of, spread


def methods(mnist, cifar, whole, stickers):
    """Which method answers which question, how surely, and how well on two data sets."""
    gray, color = (whole["data"][name] for name in ("mnist", "cifar10"))
    smooth = "smoothing of a network without tokens, sigma "

    def tokens(result):
        row = result["rows"]["learned"]
        return (f"mean patch radius {spread(row['mean_radius'])} at "
                f"{spread(row['test_accuracy'])} % accuracy")  # fmt: skip

    def certified(found, name, radius, shown):
        images = found.get("images", whole["settings"]["images"])
        share = at_radius(found, name, radius)
        return f"{interval_of(share, images)} % certified at {shown}"

    def trained(result):
        row = result["rows"]["no tokens, trained on attacks"]
        left = interval_of(row["attacks"]["worst_case"], row["attacks"]["images"])
        return f"{left} % withstand all attacks at {result['eps']:g} (standardized)"

    def sticker(data):
        if data not in stickers["data"]:
            return "not measured yet"
        rows = stickers["data"][data]["rows"]
        name = max(rows, key=lambda name: rows[name]["5"]["certified"]["share"])
        row = rows[name]["5"]["certified"]
        return f"{interval_of(100 * row['share'], row['of'])} % certified, 5x5 pixels, {name}"

    header = ("question", "method", "guarantee", "MNIST", "CIFAR-10")
    rows = [
        ("How far may every patch change at once?", "tokens, `certify`",
         "proof, exact for each patch", tokens(mnist), tokens(cifar)),
        ("How far is a whole image safe, for certain?",
         "prototypes, `certify_prediction(cells=True)`", "proof",
         certified(gray, "prototypes", 1.0, "1.00"),
         certified(color, "prototypes", 36 / 255, "36/255")),
        ("The same on color images?", "Lipschitz networks, in benchmarks/ only", "proof", "",
         f"{certified(color, '1-Lipschitz network', 36 / 255, '36/255')}, "
         f"{color['published']['deterministic: LiResNet'][1]:.1f} % by LiResNet"),
        ("How far, if an error of one in 1,000 certificates is acceptable?",
         "smoothing of a network trained on noise, `SmoothedClassifier`", "with high probability",
         certified(gray, f"{smooth}0.5", 0.5, "0.50"),
         certified(color, f"{smooth}0.25", 0.5, "0.50")),
        ("Can a sticker anywhere change the answer?",
         "double masking, `StickerCertifiedClassifier`", "proof", sticker("mnist"),
         sticker("cifar10")),
        ("How robust is it in practice, without a proof?",
         "a network trained on attacks, `adversarial_radius`", "none", trained(mnist),
         trained(cifar)),
    ]  # fmt: skip
    note = (
        "Figures are those of the tables below: mean ± standard deviation over seeds, or a 95 % "
        "interval of Clopper and Pearson over test images. Certified shares are in [0, 1] pixels, "
        "L2 over the whole image; patch radii are in standardized pixels."
    )
    return header, rows, note
