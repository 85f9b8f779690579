/** Segment walk: which cell (segment, layer) hands what to which, and in what order they can run. */

import { Panel, element, shape } from "./parts.js";

const HANDED = { armt: "A and z", rmt: "memory tokens", prmt: "memory tokens" };
const nameOf = (segment, layer) => `${segment},${layer}`;

/** All cells in the sequential order, each with those it needs. */
function cellsOf({ system, n_segments, n_layers }) {
  const cells = [];
  for (let segment = 1; segment <= n_segments; segment++)
    for (let layer = 1; layer <= n_layers; layer++) {
      const needs = [];
      if (layer > 1) needs.push([segment, layer - 1]); // hidden vectors
      if (segment > 1 && system !== "rmt") needs.push([segment - 1, layer]); // this layer's memory
      if (segment > 1 && system === "rmt" && layer === 1) needs.push([segment - 1, n_layers]);
      cells.push({ segment, layer, needs });
    }
  return cells;
}

/** The tick of each cell, if it waits for nothing but what it needs. */
function soonestTicks(cells) {
  const ticks = {};
  for (const { segment, layer, needs } of cells)
    ticks[nameOf(segment, layer)] = 1 + Math.max(0, ...needs.map(([s, l]) => ticks[nameOf(s, l)]));
  return ticks;
}

const GRID_WIDTH = 360;
const GRID_LEFT = 34;
const GRID_BOTTOM = 36;
const ROW = 44;

/** One order as a grid: done, running now, waiting; arrows for what is handed on. */
function grid(title) {
  const svg = shape("svg", { role: "img" });
  const caption = element("div", { class: "armt-title" }, title);
  return {
    element: element("div", { class: "armt-chart armt-grid-of-cells" }, caption, svg),
    draw({ cells, ticks, tick, n_segments, n_layers }) {
      const height = n_layers * ROW + GRID_BOTTOM + 8;
      const column = (GRID_WIDTH - GRID_LEFT - 6) / n_segments;
      const x = (segment) => GRID_LEFT + (segment - 0.5) * column;
      const y = (layer) => height - GRID_BOTTOM - (layer - 0.5) * ROW;
      const [halfWidth, halfHeight] = [0.32 * column, 0.3 * ROW];
      svg.setAttribute("viewBox", `0 0 ${GRID_WIDTH} ${height}`);
      const drawn = [];
      for (const { segment, layer, needs } of cells)
        for (const [s, l] of needs) {
          const isNow = ticks[nameOf(segment, layer)] === tick;
          const start = s === segment ? [x(s), y(l) - halfHeight] : [x(s) + halfWidth, y(l)];
          const end = s === segment ? [x(segment), y(layer) + halfHeight] : [x(segment) - halfWidth, y(layer)];
          drawn.push(shape("path", { d: `M${start}L${end}`, class: isNow ? "armt-wire armt-now" : "armt-wire" }));
        }
      for (const { segment, layer } of cells) {
        const at = ticks[nameOf(segment, layer)];
        const style = at === tick ? "armt-now" : at < tick ? "armt-done" : "armt-waiting";
        drawn.push(
          shape("rect", {
            x: x(segment) - halfWidth,
            y: y(layer) - halfHeight,
            width: 2 * halfWidth,
            height: 2 * halfHeight,
            rx: 3,
            class: `armt-cell ${style}`,
          }),
          shape("text", { x: x(segment), y: y(layer) + 4, "text-anchor": "middle" }, `${at}`),
        );
      }
      for (let segment = 1; segment <= n_segments; segment++)
        drawn.push(shape("text", { x: x(segment), y: height - GRID_BOTTOM + 14, "text-anchor": "middle" }, `${segment}`));
      for (let layer = 1; layer <= n_layers; layer++)
        drawn.push(shape("text", { x: GRID_LEFT - 6, y: y(layer) + 4, "text-anchor": "end" }, `${layer}`));
      drawn.push(
        shape("text", { x: (GRID_LEFT + GRID_WIDTH) / 2, y: height - 4, "text-anchor": "middle" }, "segment (number)"),
        shape("text", { transform: `translate(12 ${(height - GRID_BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, "layer"),
      );
      svg.replaceChildren(...drawn);
      const all = Object.values(ticks);
      const done = all.filter((at) => at <= tick).length;
      svg.setAttribute("aria-label", `${title}: ${done} of ${all.length} cells done after ${tick} ticks`);
    },
  };
}

export default {
  render({ model, el }) {
    const panel = new Panel(model, el, "Segment walk");
    panel.addButton("One tick", () => panel.set("tick", model.get("tick") + 1));
    panel.addButton("Back", () => panel.set("tick", model.get("tick") - 1));
    const grids = ["One after another", "As soon as possible"].map((title) => panel.add(grid(title)));
    return panel.start(() => {
      const settings = Object.fromEntries(panel.names.map((name) => [name, model.get(name)]));
      const { tick, system, n_segments, n_layers } = settings;
      const cells = cellsOf(settings);
      const orders = [
        Object.fromEntries(cells.map(({ segment, layer }, i) => [nameOf(segment, layer), i + 1])),
        soonestTicks(cells),
      ];
      orders.forEach((ticks, i) => grids[i].draw({ cells, ticks, tick, n_segments, n_layers }));
      const done = orders.map((ticks) => Object.values(ticks).filter((at) => at <= tick).length);
      const last = orders.map((ticks) => Math.max(...Object.values(ticks)));
      const now = cells.find(({ segment, layer }) => orders[0][nameOf(segment, layer)] === tick);
      const needs = (now?.needs ?? []).map(([s, l]) =>
        s === now.segment ? `hidden vectors of layer ${l}` : `${HANDED[system]} of segment ${s}, layer ${l}`,
      );
      panel.summary.textContent =
        `Tick ${tick}: ${done[0]} of ${cells.length} cells done one after another, ${done[1]} as soon as possible. ` +
        `They need ${last[0]} and ${last[1]} ticks.` +
        (now ? ` One after another, segment ${now.segment}, layer ${now.layer} takes ${needs.join(" and ") || "nothing from before"}.` : "");
    });
  },
};
