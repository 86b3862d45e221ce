"""How the documentation is built: ``sphinx-build -W --keep-going docs docs/_build``.

Nothing is downloaded.  The examples run on data that come with scikit-learn, and links to other
projects are made from the names alone.
"""

import os
import sys
from pathlib import Path

import matplotlib
import torch
from docutils import nodes

from sklearn_patchcert import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
sys.path.insert(0, str(Path(__file__).parent))  # gallery_order
matplotlib.use("agg")
torch.set_num_threads(1)  # the networks are small, and a busy machine waits for its threads
os.environ.setdefault("TQDM_DISABLE", "1")

project = "sklearn_patchcert"
author = "The sklearn_patchcert developers"
copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "wings",  # docs/_ext: the picture on the page "Developing"
]
exclude_patterns = ["_build", "_ext"]
templates_path = ["_templates"]
default_role = "code"
nitpicky = True
nitpick_ignore = [  # attributes that scikit-learn's Pipeline defines
    ("py:obj", "named_steps"),
    ("py:obj", "n_features_in_"),
    ("py:obj", "feature_names_in_"),
]
autodoc_typehints = "none"

autosummary_generate = True
numpydoc_show_class_members = False

# All others are shown but not run; docs/images has their thumbnails.
RUN_AT_BUILD = ("quickstart", "pictures", "search", "own_loss", "whole_image", "stickers")
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": rf"/({'|'.join(RUN_AT_BUILD)})\.py$",
    "backreferences_dir": "generated/backreferences",
    "within_subsection_order": "gallery_order.Order",
    "doc_module": ("sklearn_patchcert",),
    "abort_on_example_error": True,
    "write_computation_times": False,
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
    "capture_repr": (),
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_patchcert"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_sidebars = {"index": []}
html_theme_options = {
    "header_links_before_dropdown": 6,
    "show_nav_level": 1,
    "navigation_depth": 3,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}

ELSEWHERE = {  # pages of other projects, by the first part of a name
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{name}.html",
    "functools": "https://docs.python.org/3/library/functools.html#{name}",
}


def resolve(app, env, node, contnode):
    """Names as the sources write them: of ours without the package, of others by their page."""
    name = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    page = ELSEWHERE.get(name.partition(".")[0])
    if page is not None:
        return nodes.reference("", "", contnode, refuri=page.format(name=name), internal=False)
    if name.startswith("sklearn_patchcert"):
        return None
    search = env.domains["py"].resolve_xref
    place = env, node["refdoc"], app.builder, node["reftype"]
    found = search(*place, f"sklearn_patchcert.{name}", node, contnode)
    if found is None and node["reftype"] == "mod":  # a room without a page: its wing has one
        found = search(*place, f"sklearn_patchcert.{name.partition('.')[0]}", node, contnode)
    if found is None and node["reftype"] == "meth" and "." not in name:
        return contnode  # inherited, and documented elsewhere
    if found is None and node["reftype"] != "obj":
        node["refspecific"] = True  # in any module
        found = search(*place, name, node, contnode)
    return found


def skip(app, what, name, obj, skip, options):
    """Members that scikit-learn, skorch or torch define are documented there."""
    module = getattr(getattr(obj, "__func__", obj), "__module__", None)
    if isinstance(obj, property):
        module = obj.fget.__module__
    foreign = not (module or "").startswith("sklearn_patchcert")
    return skip or foreign or name.startswith("_") or name.endswith("_request")


def setup(app):
    app.connect("missing-reference", resolve)
    app.connect("autodoc-skip-member", skip)
