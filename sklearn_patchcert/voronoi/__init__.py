"""One patch and its tokens: the nearest token, the certified radius, the distance to a cell.

Arrays of patches and tokens come in, and token ids, radii and steps go out.  This wing does not
know images or estimators.  `certificate` has the certificate, `projections` the distances to whole
cells, `surrogates` differentiable approximations, and `engines` the fast searches.
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
