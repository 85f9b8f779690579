/** Estimator: how many pairs a model remembers, from its exact match. */

import { Panel, chart, readable } from "./parts.js";

const QUANTILE = 1.959963984540054; // 95 % of a normal variable lie within this

/** Wilson's 95 % interval of a share of `total` independent answers. */
function wilson(share, total) {
  const square = QUANTILE ** 2 / total;
  const middle = (share + square / 2) / (1 + square);
  const half = (QUANTILE / (1 + square)) * Math.sqrt((share * (1 - share)) / total + square / (4 * total));
  return [middle - half, middle + half];
}

export default {
  render({ model, el }) {
    const panel = new Panel(model, el, "Estimator");
    const curve = panel.add(
      chart("Pairs remembered, by exact match", "exact match (%)", "pairs remembered (number)", {
        "k = n (vα − 1) / (v − 1)": "armt-measured",
        guessing: "armt-guessing",
        "95 % interval": "armt-interval",
      }),
    );
    return panel.start(() => {
      const [percent, n, v, total] = ["percent", "n_pairs", "n_values", "n_questions"].map((name) => model.get(name));
      const remembered = (share) => (n * (v * share - 1)) / (v - 1);
      const right = Math.floor((percent / 100) * total + 0.5);
      const share = right / total;
      const [low, high] = wilson(share, total);
      const [estimate, least, most] = [share, low, high].map(remembered);
      panel.summary.textContent =
        `${right} of ${total} questions right: about ${estimate.toFixed(1).replace("-", "−")} of ${n} pairs remembered, ` +
        `95 % interval ${least.toFixed(1).replace("-", "−")} to ${most.toFixed(1).replace("-", "−")}. ` +
        `Guessing gives ${readable(100 / v)} %.`;
      curve.draw(
        {
          lines: {
            "armt-measured": [[0, remembered(0)], [100, n]],
            "armt-interval": [[100 * low, least], [100 * high, most]],
          },
          points: [[100 * share, estimate, "armt-point"]],
          rules: [[100 / v, "armt-guessing"]],
        },
        [0, 100, Math.min(0, remembered(0)), n],
        `Pairs remembered against exact match; now ${readable(estimate)} at ${readable(100 * share)} %`,
      );
    });
  },
};
