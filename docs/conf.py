"""Settings of the documentation, which `sphinx-build -W docs docs/_build` builds."""

import pathlib
import sys

import advgan_jax

sys.path.append(str(pathlib.Path(__file__).parent / "_extensions"))

project = "advgan_jax"
author = "The advgan_jax authors"
project_copyright = "The advgan_jax authors, Apache 2.0"
version = release = advgan_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.linkcode",
    # In `_extensions`.
    "docstrings",
    "mathml",
    "repository",
]
exclude_patterns = ["_build", "jupyter_execute"]
suppress_warnings = ["config.cache"]  # functions among the settings

# Pages.
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_update_mathjax = False
html_math_renderer = "mathml"

# Tutorials run while the pages are built; what they print to stderr is a mistake.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds of a cell, on a busy machine
nb_output_stderr = "error"
nb_render_markdown_format = "myst"

# Reference.
autoclass_content = "both"
autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
python_display_short_literal_types = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has the types
add_module_names = False
default_role = "code"
toc_object_entries_show_parents = "hide"

# Appearance: nothing but what these folders and the theme's package hold.
templates_path = ["_templates"]
html_theme = "sphinx_book_theme"
html_title = f"advgan_jax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the sidebar has the search
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Return where the pages show the source of a name, if it has one."""
    from repository import source_of

    return source_of(info) if domain == "py" else None
