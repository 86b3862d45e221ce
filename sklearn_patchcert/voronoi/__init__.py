"""One patch and its tokens: the nearest token, the certified radius, the distance to a cell.

Arrays of patches and tokens come in, and token ids, radii and steps go out.  Nothing here knows of
images or estimators.  `certificate` is the certificate, `projections` the distance to whole cells,
`surrogates` the differentiable stand-ins, and `engines` compute.
"""

from sklearn_patchcert.voronoi.certificate import (
    NORMS,
    certify,
    check_norm,
    image_radii,
    patch_radius,
    step_to_wall,
    tokenize,
    wall_distance,
)
from sklearn_patchcert.voronoi.projections import cell_costs, realised, steps_into_cells

__all__ = [
    "NORMS",
    "cell_costs",
    "certify",
    "check_norm",
    "image_radii",
    "patch_radius",
    "realised",
    "step_to_wall",
    "steps_into_cells",
    "tokenize",
    "wall_distance",
]
