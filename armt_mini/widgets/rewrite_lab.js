/** Rewrite lab: the same key written segment after segment, with γ on and off side by side. */

import { emptyState, gamma, innerProduct, read, write } from "./engine.js";
import { Panel, chart, element, heatmap, reachOf, readable } from "./parts.js";

const VALUES = [[10, 0], [0, 10], [6, 6], [-8, 4]].map((entries) => Float64Array.from(entries));
const RULES = { "γ on": "gamma", "γ off": "delta" };

/** Which key (0 or 1) a segment writes, and the values that its memory tokens write under it. */
function writesOf(segment, { schedule, second_key }) {
  const key = second_key ? segment % 2 : 0;
  const n = second_key ? Math.floor(segment / 2) : segment; // earlier segments with this key
  if (schedule === "same") return { key, values: [VALUES[0]] };
  if (schedule === "first_twice") return { key, values: n ? [VALUES[(n + 1) % 4]] : VALUES.slice(0, 2) };
  const value = VALUES[n % 4];
  return { key, values: schedule === "later_twice" && n > 0 ? [value, value] : [value] };
}

/** Both memories after 0, 1, 2, … segments: state, zᵀφ(k), γ, and what the first key recalls. */
function experiment(settings, n_most) {
  const { overlap, strength, clip_gamma: clipGamma } = settings;
  const rest = Math.sqrt(1 - overlap ** 2);
  const keys = [[1, 2, 0, 0], [overlap, 2 * overlap, rest, 2 * rest]].map((key) => Float64Array.from(key));
  const stored = [Float64Array.of(0, 0)];
  for (let segment = 0; segment < n_most; segment++) {
    const { key, values } = writesOf(segment, settings);
    const mean = Float64Array.from([0, 1], (j) => values.reduce((sum, value) => sum + value[j], 0) / values.length);
    stored.push(key ? stored.at(-1) : mean);
  }
  const memories = Object.entries(RULES).map(([name, rule]) => {
    const after = [{ state: emptyState(4, 2), overlap: 0, counted: 0, recalled: stored[0], error: 1 }];
    for (let segment = 0; segment < n_most; segment++) {
      const { key, values } = writesOf(segment, settings);
      const { state: before, counted: latest } = after.at(-1);
      const now = rule === "gamma" ? gamma(before.normaliser, keys[0], 0, clipGamma) : 1;
      const tokens = values.map(() => keys[key]);
      const strengths = values.map(() => strength);
      const state = write(before, tokens, values, strengths, rule, { eps: 0, clipGamma });
      const recalled = read(state, keys[0], 0);
      const value = stored[segment + 1];
      after.push({
        state,
        overlap: innerProduct(state.normaliser, keys[0]),
        counted: key ? latest : now,
        recalled,
        error: Math.hypot(recalled[0] - value[0], recalled[1] - value[1]) / Math.hypot(...value),
      });
    }
    return { name, after };
  });
  return { stored, memories };
}

const vector = (entries) => `(${Array.from(entries, readable).join(", ")})`;

/** The hand-worked cases of the chapter: what each puts the controls to. */
const PRESETS = {
  "Rewrite once": { n_segments: 2 },
  "Same value 20 times": { n_segments: 20, schedule: "same" },
  "Timid first write": { n_segments: 1, strength: 0.25 },
  "Two tokens, one key": { n_segments: 2, schedule: "later_twice" },
  "Twice at first, then rewritten": { n_segments: 2, schedule: "first_twice" },
  "The same, γ not clipped": { n_segments: 2, schedule: "first_twice", clip_gamma: false },
  "Two keys that overlap": { n_segments: 8, second_key: true },
};

export default {
  render({ model, el }) {
    const panel = new Panel(model, el, "Rewrite lab");
    const n_most = panel.limits.n_segments.max;
    panel.addButton("Read one more segment", () => panel.set("n_segments", model.get("n_segments") + 1));
    for (const [text, changes] of Object.entries(PRESETS))
      panel.addButton(text, () => {
        const plain = { schedule: "once", strength: 1, clip_gamma: true, second_key: false, overlap: 0.5 };
        for (const [name, value] of Object.entries({ ...plain, ...changes })) panel.set(name, value);
      });
    const rows = Object.keys(RULES).map((name) => {
      const cells = ["zᵀφ(k)", "γ", "recalled"].map(() => element("td"));
      return { cells, row: element("tr", {}, element("th", { scope: "row" }, name), ...cells) };
    });
    const wanted = element("span");
    const heads = ["", "zᵀφ(k)", "γ of the write", "recalled"].map((text) => element("th", { scope: "col" }, text));
    panel.add({
      element: element(
        "div",
        { class: "armt-keys armt-wide" },
        element("div", { class: "armt-title" }, "The key (1, 2, 0, 0), stored value ", wanted),
        element(
          "table",
          {},
          element("thead", {}, element("tr", {}, ...heads)),
          element("tbody", {}, ...rows.map(({ row }) => row)),
        ),
      ),
    });
    const sideBySide = (part) => {
      const maps = Object.keys(RULES).map((name) => heatmap(`${part}, ${name}`));
      panel.add({ element: element("div", { class: "armt-pair" }, ...maps.map((map) => map.element)) });
      return maps;
    };
    const matrices = sideBySide("Matrix A");
    const normalisers = sideBySide("Normaliser z");
    const legend = { "γ on": "armt-measured", "γ off": "armt-other" };
    const copies = panel.add(chart("Copies of the key in z: zᵀφ/‖φ‖²", "segments (number)", "copies (number)", legend));
    const errors = panel.add(
      chart("Error of recall", "segments (number)", "|recalled − stored| / |stored|", legend),
    );

    return panel.start(() => {
      const settings = Object.fromEntries(panel.names.map((name) => [name, model.get(name)]));
      const { n_segments } = settings;
      const { stored, memories } = experiment(settings, n_most);
      const now = memories.map(({ after }) => after[n_segments]);
      const largest = (part) => Math.max(...now.map(({ state }) => reachOf(state[part])));
      now.forEach(({ state, overlap, counted, recalled }, i) => {
        matrices[i].draw(state.associations, 4, 2, largest("associations"));
        normalisers[i].draw(state.normaliser, 1, 4, largest("normaliser"));
        const texts = n_segments ? [readable(overlap), readable(counted), vector(recalled)] : ["0", "–", "–"];
        rows[i].cells.forEach((cell, j) => (cell.textContent = texts[j]));
      });
      wanted.textContent = n_segments ? vector(stored[n_segments]) : "none yet";
      panel.summary.textContent = n_segments
        ? `After ${n_segments} ${n_segments === 1 ? "segment" : "segments"} the key recalls ` +
          `${vector(now[0].recalled)} with γ on and ${vector(now[1].recalled)} with γ off. ` +
          `Its stored value is ${vector(stored[n_segments])}.`
        : "An empty memory.";
      const lines = (of) =>
        Object.fromEntries(
          memories.map(({ name, after }) => [legend[name], after.slice(1).map((a, i) => [i + 1, of(a)])]),
        );
      const points = (of) =>
        n_segments ? now.map((a, i) => [n_segments, of(a), i ? "armt-point-off" : "armt-point"]) : [];
      const held = (a) => a.overlap / 5; // ‖φ‖² = 5
      const highest = (of) => Math.max(2, ...memories.flatMap(({ after }) => after.map(of)));
      copies.draw(
        { lines: lines(held), points: points(held) },
        [0, n_most, 0, highest(held)],
        `Copies of the key in z: ${now.map((a, i) => `${readable(held(a))} with ${memories[i].name}`).join(", ")}`,
      );
      const error = (a) => a.error;
      errors.draw(
        { lines: lines(error), points: points(error) },
        [0, n_most, 0, highest(error)],
        `Error of recall: ${now.map((a, i) => `${readable(a.error)} with ${memories[i].name}`).join(", ")}`,
      );
    });
  },
};
