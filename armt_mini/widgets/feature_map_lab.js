/** Feature-map lab: two vectors to drag, and how much they overlap under each map. */

import { featureMap, innerProduct } from "./engine.js";
import { Panel, chart, element, heatmap, normals, readable, shape } from "./parts.js";

const MAPS = { elu_plus_one: "elu + 1", relu: "ReLU", dpfp: "DPFP" };
const STYLES = { elu_plus_one: "armt-third", relu: "armt-other", dpfp: "armt-measured" };

/** The overlap of two feature vectors at length one, 0 if one of them is all zero. */
function cosine(a, b) {
  const lengths = Math.sqrt(innerProduct(a, a) * innerProduct(b, b));
  return lengths && innerProduct(a, b) / lengths;
}

const N_MOST = 16; // entries of a key

/** Two directions of d entries, of length one and at a right angle, drawn by lot. */
function planeOf(d) {
  const drawn = normals(0, 2 * N_MOST);
  const unit = (a) => a.map((entry) => entry / Math.sqrt(innerProduct(a, a)));
  const first = unit(drawn.slice(0, d));
  const other = drawn.slice(N_MOST, N_MOST + d);
  const shared = innerProduct(other, first);
  return [first, unit(other.map((entry, i) => entry - shared * first[i]))];
}

const HALF = 120; // the plane reaches from −HALF to HALF
const UNIT = HALF / 2.2;

/** The plane with both vectors as arrows. `move(name, first, second)` tells where one was dragged. */
function plane(move) {
  const svg = shape("svg", { viewBox: `${-HALF} ${-HALF} ${2 * HALF} ${2 * HALF}`, role: "img" });
  svg.append(
    shape("path", { d: `M${-HALF} 0H${HALF}M0 ${-HALF}V${HALF}`, class: "armt-axis" }),
    shape("circle", { r: UNIT, class: "armt-grid", fill: "none" }),
  );
  const arrows = Object.entries({ x: "armt-right", y: "armt-wrong" }).map(([name, style]) => {
    const line = shape("path", { class: `${style} armt-arrow` });
    const label = shape("text", { dx: 10, dy: -10 }, name);
    const handle = shape(
      "g",
      { class: "armt-handle" },
      shape("circle", { r: 22, class: "armt-hit" }),
      shape("circle", { r: 7, class: style }),
      label,
    );
    const keepFromScrolling = (event) => event.preventDefault(); // beside it a finger scrolls the page
    handle.addEventListener("touchstart", keepFromScrolling, { passive: false });
    handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const { left, top, width, height } = svg.getBoundingClientRect();
      const across = ((event.clientX - left) / width - 0.5) * 2 * HALF;
      const down = ((event.clientY - top) / height - 0.5) * 2 * HALF;
      move(name, across / UNIT, -down / UNIT);
    });
    svg.append(line, handle);
    return { line, handle };
  });
  const figure = element("div", { class: "armt-chart armt-plane" }, element("div", { class: "armt-title" }, "Drag x and y"), svg);
  return {
    element: figure,
    draw(vectors) {
      vectors.forEach(([first, second], i) => {
        const [across, down] = [first * UNIT, -second * UNIT];
        arrows[i].line.setAttribute("d", `M0 0L${across} ${down}`);
        arrows[i].handle.setAttribute("transform", `translate(${across} ${down})`);
      });
      const words = vectors.map((vector, i) => `${"xy"[i]} = (${vector.map(readable).join(", ")})`);
      svg.setAttribute("aria-label", `Two vectors in the plane: ${words.join(", ")}`);
    },
  };
}

export default {
  render({ model, el }) {
    const panel = new Panel(model, el, "Feature-map lab");
    const arrows = panel.add(
      plane((name, first, second) => {
        panel.set(`${name}1`, first);
        panel.set(`${name}2`, second);
      }),
    );
    const rows = Object.values(MAPS).map((name) => {
      const cells = ["overlap", "at length one"].map(() => element("td"));
      return { cells, row: element("tr", {}, element("th", { scope: "row" }, name), ...cells) };
    });
    const heads = ["map", "φ(x)ᵀφ(y)", "at length one"].map((text) => element("th", { scope: "col" }, text));
    panel.add({
      element: element(
        "div",
        { class: "armt-keys" },
        element("div", { class: "armt-title" }, "Overlap"),
        element(
          "table",
          {},
          element("thead", {}, element("tr", {}, ...heads)),
          element("tbody", {}, ...rows.map(({ row }) => row)),
        ),
      ),
    });
    const maps = Object.entries(MAPS).map(([name, label]) => ({
      name,
      features: panel.add(heatmap(`Features of x (top) and y, ${label}`)),
    }));
    const curves = panel.add(
      chart(
        "Overlap when y turns",
        "angle from x to y (degrees)",
        "overlap at length one",
        Object.fromEntries(Object.entries(MAPS).map(([name, label]) => [label, STYLES[name]])),
      ),
    );

    return panel.start(() => {
      const [x1, x2, y1, y2, nu] = ["x1", "x2", "y1", "y2", "nu"].map((name) => model.get(name));
      const [right, up] = planeOf(model.get("d_memory"));
      const key = (a, b) => right.map((entry, i) => a * entry + b * up[i]);
      const x = key(x1, x2);
      arrows.draw([[x1, x2], [y1, y2]]);
      const from = Math.atan2(x2, x1);
      const length = Math.hypot(y1, y2);
      const between = (((Math.atan2(y2, y1) - from) * 180) / Math.PI + 720) % 360;
      const lines = {};
      const found = maps.map(({ name, features }, i) => {
        const phi = featureMap(name, { nu });
        const both = [phi(x), phi(key(y1, y2))];
        features.draw(Float64Array.of(...both[0], ...both[1]), 2, both[0].length);
        const overlap = cosine(...both);
        [innerProduct(...both), overlap].forEach((value, j) => (rows[i].cells[j].textContent = readable(value)));
        lines[STYLES[name]] = Array.from({ length: 73 }, (_, step) => {
          const angle = from + (step * 5 * Math.PI) / 180;
          return [5 * step, cosine(both[0], phi(key(length * Math.cos(angle), length * Math.sin(angle))))];
        });
        return overlap;
      });
      const words = found.map((overlap, i) => `${readable(overlap)} (${MAPS[maps[i].name]})`).join(", ");
      panel.summary.textContent =
        (length && (x1 || x2)
          ? `x and y are ${readable(Math.round(Math.min(between, 360 - between)))}° apart; `
          : "A key of length zero has no direction; ") +
        `the overlap of their features at length one is ${words}.`;
      curves.draw(
        { lines, points: found.map((overlap, i) => [between, overlap, `armt-point ${STYLES[maps[i].name]}`]) },
        [0, 360, 0, 1],
        `Overlap against the angle from x to y; now ${words}`,
      );
    });
  },
};
