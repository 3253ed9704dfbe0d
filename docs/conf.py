"""How Sphinx builds these pages: ``make docs``, or ``sphinx-build -W docs docs/_build/html``."""

import logging
import re
from pathlib import Path

import latex2mathml.converter
import numba
from deltajit.kernels.compiler import FINGERPRINT
from docutils.nodes import SkipNode, Text, literal_block
from sphinx.directives.code import LiteralInclude
from sphinx.pycode import ModuleAnalyzer
from sphinx_gallery.sorting import ExplicitOrder

from deltajit.version import VERSION

logging.getLogger("deltajit").setLevel(logging.ERROR)  # that kernels compile is no example's output

# Examples compile functions of their own; Numba can't see that a kernel in them has changed.
numba.config.CACHE_DIR = str(Path(__file__).parent / "_build" / f"numba-{FINGERPRINT[:16]}")

project, author, release = "deltajit", "the deltajit developers", VERSION
copyright = f"2026, {author}"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "matplotlib.sphinxext.plot_directive",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py", "gallery/*.md5"]
default_role = "code"
smartquotes = False  # --show is an option
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# ---------------------------------------------------------------- reference

toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections have the types, in words and with shapes
autosummary_generate = False  # a page has all of its subject, not one function
numpydoc_show_class_members = False

# ---------------------------------------------------------------- pictures and examples

plot_formats = ["svg"]
plot_html_show_formats = plot_html_show_source_link = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "",  # execute all
    "within_subsection_order": ExplicitOrder(
        [
            "four_equations.py",
            "derivations.py",
            "descents.py",
            "constructions.py",
            "controller.py",
            "onnx_policy.py",
            "neural_ode.py",
            "online.py",
            "physics_informed.py",
            "many_machines.py",
        ]
    ),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "show_memory": False,
    "image_srcset": ["2x"],
}

# ---------------------------------------------------------------- looks

html_title = "deltajit"
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["deltajit.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "contributing": [], "changelog": []}
html_theme_options = {
    "logo": {"text": "deltajit"},
    "github_url": "https://github.com/deltajit/deltajit",
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


# ---------------------------------------------------------------- formulas


def inline_formula(translator, node):
    """Write a formula in a line as MathML, which browsers draw without any script."""
    translator.body.append(latex2mathml.converter.convert(node.astext()))
    raise SkipNode


def displayed_formula(translator, node):
    """Write a formula of its own line as MathML."""
    formula = latex2mathml.converter.convert(node.astext(), display="block")
    translator.body.append(f'<div class="formula">{formula}</div>')
    raise SkipNode


class Code(LiteralInclude):
    """Include code, of whose docstrings the first line is enough: the reference has all of them."""

    def run(self):
        included = super().run()
        for node in included:
            for block in node.findall(literal_block):
                text = re.sub(r'("""[^"\n]+)\n[^"]*"""', r'\1"""', block.astext())
                block.rawsource, block[:] = text, [Text(text)]
        return included


def document_records():
    """Show the comments of dicts of records at their public names, above where they are made."""
    for public, below in (("kernels", "kernels.mlp"), ("reference", "reference")):
        comments = ModuleAnalyzer.for_module(f"deltajit.{public}").find_attr_docs()
        for module in ("activations", "losses", "optimizers"):
            comments |= ModuleAnalyzer.for_module(f"deltajit.{below}.{module}").find_attr_docs()


def setup(app):
    """Tell Sphinx of the formulas, of included code, and of comments."""
    document_records()
    app.add_directive("literalinclude", Code, override=True)
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))


html_math_renderer = "mathml"
