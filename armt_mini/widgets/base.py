"""What every widget of the book shares: its front end, its controls, its static figure.

A widget is one Python class and one JavaScript module. The module is joined with the two that all
share, `engine.js` (the memory itself) and `parts.js` (sliders, plots, links), into the one text
that travels with a saved page; so the page computes without a kernel and without any other file.
With a kernel the traits sync both ways.

A trait with the tag `label` is a control: the page shows it, keeps it in the URL fragment and puts
it back on "reset". Its limits are written once, on the trait: `min`, `max` and the tag `step`, or
the tag `options` (each value and its text). A text or a list has none; its widget shows it itself.
"""

from __future__ import annotations

import base64
import io
import re
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import matplotlib.pyplot as plt
import traitlets
from IPython.display import HTML, display
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
SHARED = ("engine.js", "parts.js")
IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class)\b)", re.MULTILINE)


def joined(module: str) -> str:
    """One self-contained module: the shared ones, then `module`, their imports resolved."""
    sources = [IMPORT.sub("", (FOLDER / name).read_text("utf-8")) for name in (*SHARED, module)]
    return "\n".join([*(EXPORT.sub("", source) for source in sources[:-1]), sources[-1]])


class Widget(anywidget.AnyWidget):
    """A figure with controls, computed in the page.

    name: the prefix of this widget's controls in the URL fragment; give two widgets of one page
    two names.
    """

    module: ClassVar[str]
    """The JavaScript file of the widget, beside this one."""

    name = traitlets.Unicode(help="prefix in the URL fragment").tag(sync=True)
    controls = traitlets.List(help="name, label and limits of every control").tag(sync=True)
    initial = traitlets.Dict(help='what "reset" puts back').tag(sync=True)
    _css = FOLDER / "widgets.css"

    def __init_subclass__(cls, **options: Any) -> None:
        if "module" in vars(cls):  # not in the classes that `add_traits` makes
            cls._esm = joined(cls.module)
        super().__init_subclass__(**options)

    def __init__(self, **settings: Any) -> None:
        """Raises TraitError for a setting outside its limits, TypeError for an unknown one."""
        unknown = settings.keys() - self.trait_names()
        if unknown:
            raise TypeError(
                f"{type(self).__name__}: expected settings among {', '.join(self.control_names())}"
                f", got {', '.join(sorted(unknown))}."
            )
        super().__init__(**{"name": self.module.removesuffix(".js").replace("_", "-"), **settings})
        self.controls = [limits(self.traits()[name]) for name in self.control_names()]
        self.initial = {name: getattr(self, name) for name in self.control_names()}

    def open(self) -> None:
        """Not yet: a saved page carries every widget that was opened, also those never shown."""

    @property
    def model_id(self) -> str:
        """What a front end calls this widget, which is opened as soon as somebody asks for it."""
        super().open()
        return super().model_id

    @classmethod
    def control_names(cls) -> list[str]:
        """The traits that the page shows as controls, in the order of their definition."""
        defined = (item for base in reversed(cls.__mro__) for item in vars(base).items())
        return [
            name
            for name, trait in defined
            if isinstance(trait, traitlets.TraitType) and "label" in trait.metadata
        ]

    def figure(self) -> Figure:
        """What the page shows now, as a Matplotlib figure: for print, and without JavaScript."""
        raise NotImplementedError

    def description(self) -> str:
        """The figure in words, for readers who do not see it."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        """The widget, then its static figure, which the widget's style hides on screens."""
        figure = self.figure()
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=110)
        plt.close(figure)
        source = base64.b64encode(image.getvalue()).decode()
        data, _ = self._repr_mimebundle_() or ({}, {})
        display(data, raw=True)
        display(
            HTML(
                f'<div class="armt-static"><img alt="{escape(self.description())}" '
                f'src="data:image/png;base64,{source}"></div>'
            )
        )


def limits(trait: Any) -> dict[str, Any]:
    """What the page must know of a control: its name and label, and what it may be.

    In lists, since a saved notebook sorts the names of a dictionary.
    """
    found = {"name": trait.name, "label": trait.metadata["label"]}
    if "options" in trait.metadata:
        return found | {"options": list(trait.metadata["options"].items())}
    if isinstance(trait, (traitlets.Bool, traitlets.Unicode)):
        return found
    return found | {"min": trait.min, "max": trait.max, "step": trait.metadata.get("step", 1)}
