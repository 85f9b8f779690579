"""What the pictures of a widget show, read back from the page as numbers."""

import re

import numpy as np

HEATMAP = """(canvas) => {
    const { width, height } = canvas;
    const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    return {
        size: [height, width, 4],
        entries: copy.getImageData(0, 0, width, height).data.join(),  // a list would take longer
        colours: ["zero", "negative", "positive"].map((name) =>
            getComputedStyle(canvas).getPropertyValue(`--armt-${name}`).trim()),
    };
}"""

CHART = """(svg) => {
    const all = (marks, names) => [...svg.querySelectorAll(marks)].map((mark) =>
        names.map((name) => mark.getAttribute(name) ?? mark.textContent));
    return {
        ticks: all("text[x]", ["text-anchor", "x", "y", "content"]),
        lines: all("path", ["class", "d"]),
        bars: all("rect", ["x", "y", "width", "height"]),
        points: all("circle", ["cx", "cy"]),
    };
}"""


def numbers(text):
    """All numbers in a text."""
    found = re.findall(r"-?\d+\.?\d*(?:e[+-]?\d+)?", text.replace("−", "-"))
    return [float(number) for number in found]


def view(widget, kind, title):
    return widget.locator(kind).filter(has=widget.page.get_by_text(title, exact=True))


def assert_matrix(widget, title, expected):
    """A heatmap holds these entries: its colours, on the scale below it, are theirs.

    To a fiftieth of the end of the scale, since a colour has 8 bits and the palest show no sign; to
    a twentieth where the end has two digits, as in 1.2e+5.
    """
    heatmap = view(widget, ".armt-heatmap", title)
    found = heatmap.locator("canvas").evaluate(HEATMAP)
    zero, *ends = (np.array([*bytes.fromhex(colour[1:])]) for colour in found["colours"])
    entries = np.array(found["entries"].split(","), dtype=float).reshape(found["size"])
    away = entries[..., :3] - zero
    shares = [away @ (end - zero) / ((end - zero) @ (end - zero)) for end in ends]
    end = heatmap.locator(".armt-scale span").last.inner_text()
    (limit,) = numbers(end)
    shown = limit * np.where(shares[0] > shares[1], -shares[0], shares[1])
    expected = np.atleast_2d(expected)
    assert shown.shape == expected.shape, title
    assert np.abs(shown - expected).max() <= (0.05 if "e" in end else 0.02) * limit, title


class Chart:
    """The marks of a chart, each an array of (x, y) in the units of its axes."""

    def __init__(self, widget, title):
        self.found = view(widget, ".armt-chart", title).locator("> svg").evaluate(CHART)
        ticks = [(end, float(x), float(y), numbers(n)) for end, x, y, n in self.found["ticks"]]
        across = [(x, n[0]) for end, x, _, n in ticks if end == "middle" and n]
        up = [(y - 4, n[0]) for end, _, y, n in ticks if end == "end"]  # 4: half a letter
        self.scales = [np.polyfit(*zip(*axis, strict=True), 1) for axis in (across, up)]

    def values(self, places):
        places = np.asarray(places, dtype=float).reshape(-1, 2)
        return np.stack([np.polyval(s, p) for s, p in zip(self.scales, places.T, strict=True)], 1)

    def points(self):
        return self.values(self.found["points"])

    def bars(self):
        """Where each stands, and where it ends that does not stand on zero."""
        x, top, width, height = np.asarray(self.found["bars"], dtype=float).reshape(-1, 4).T
        ends = [self.values(np.stack([x + width / 2, y], 1)) for y in (top, top + height)]
        return np.where(np.abs(ends[0][:, 1:]) > np.abs(ends[1][:, 1:]), *ends)

    def line(self, style):
        (path,) = (d for name, d in self.found["lines"] if name == style)
        return self.values(numbers(path.replace("L", " ")))
