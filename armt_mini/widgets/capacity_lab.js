/** Capacity lab: how many random pairs one matrix holds, by rule, feature map and dimension. */

import { emptyState, featureMap, innerProduct, read, write } from "./engine.js";
import { Panel, chart, heatmap, normals, uniforms } from "./parts.js";

const N_VALUES = 16;
const N_MEMORIES = 4; // the first is shown, the curve is the mean of all

/** Random keys of length one, queries near them, and the symbol stored under each key. */
function drawPairs({ d_memory, n_most, overlap, noise, seed }) {
  const count = N_MEMORIES * n_most * d_memory;
  const own = normals(seed, count);
  const error = normals(seed + 1, count);
  const common = normals(seed + 2, 64); // an even number, at least d_memory
  const scale = 1 / Math.sqrt(d_memory);
  const pairs = [];
  for (let start = 0; start < count; start += d_memory) {
    const key = new Float64Array(d_memory);
    for (let i = 0; i < d_memory; i++)
      key[i] = Math.sqrt(1 - overlap) * own[start + i] + Math.sqrt(overlap) * common[i];
    const length = Math.hypot(...key);
    const query = key.map((x, i) => x / length + noise * scale * error[start + i]);
    pairs.push({ key: key.map((x) => x / length), query });
  }
  const symbols = uniforms(seed + 3, pairs.length);
  return pairs.map((pair, i) => ({ ...pair, symbol: Math.floor(N_VALUES * symbols[i]) }));
}

/** φ(q)ᵀA. Not divided by φ(q)ᵀz: that changes all entries alike, so not which is largest. */
function answerOf({ associations }, { query }) {
  const answer = new Float64Array(N_VALUES);
  for (let i = 0; i < query.length; i++) {
    if (query[i] === 0) continue;
    const row = i * N_VALUES;
    for (let j = 0; j < N_VALUES; j++) answer[j] += query[i] * associations[row + j];
  }
  return answer;
}

/** How far the stored symbol is ahead of the best other one; 1 is a pair that is alone. */
function lead(answer, { symbol, length }) {
  let best = -Infinity;
  for (let j = 0; j < N_VALUES; j++) if (j !== symbol && answer[j] > best) best = answer[j];
  return length && (answer[symbol] - best) / length; // ReLU may leave nothing of a key
}

/** Every memory, pair after pair: states of the first, and the share recalled after n pairs. */
function experiment(settings) {
  const phi = settings.feature_map === "none" ? (x) => x : featureMap(settings.feature_map, settings);
  const pairs = drawPairs(settings).map(({ key, query, symbol }) => {
    const value = new Float64Array(N_VALUES);
    value[symbol] = 1;
    const features = phi(key);
    return { key: features, query: phi(query), symbol, value, length: innerProduct(features, features) };
  });
  const { n_most } = settings;
  const right = new Float64Array(n_most + 1);
  let shown;
  for (let memory = 0; memory < N_MEMORIES; memory++) {
    const own = pairs.slice(memory * n_most, (memory + 1) * n_most);
    const states = [emptyState(own[0].key.length, N_VALUES)];
    const answers = own.map(() => new Float64Array(N_VALUES)); // of A after n pairs
    const overlaps = []; // φ(k)ᵀφ(q), key by key
    for (let n = 1; n <= n_most; n++) {
      const { key, value } = own[n - 1];
      const old = read(states[n - 1], key);
      states.push(write(states[n - 1], [key], [value], [1], settings.rule));
      // A gains φ(k) ⊗ this, so each answer gains φ(q)ᵀφ(k) times this: no need to read A again.
      const written = settings.rule === "additive" ? value : value.map((x, j) => x - old[j]);
      const on = [...key.keys()].filter((i) => key[i] !== 0); // most features of DPFP are off
      const overlap = own.map(({ query }) => on.reduce((sum, i) => sum + key[i] * query[i], 0));
      for (let i = 0; i < n_most; i++) {
        for (let j = 0; j < N_VALUES; j++) answers[i][j] += overlap[i] * written[j];
        if (i < n) right[n] += lead(answers[i], own[i]) > 0;
      }
      overlaps.push(overlap);
    }
    shown ??= { pairs: own, states, overlaps };
  }
  const shares = []; // of what another key weighs in an answer, the own key weighing one
  for (let asked = 0; asked < n_most; asked++) {
    const signal = shown.overlaps[asked][asked];
    if (signal === 0) continue;
    for (let other = 0; other < n_most; other++)
      if (other !== asked) shares.push(shown.overlaps[other][asked] / signal);
  }
  const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
  const square = shares.reduce((sum, share) => sum + share ** 2, 0) / shares.length;
  const accuracy = right.map((count, n) => (n ? count / (n * N_MEMORIES) : 1));
  const variance = square / N_VALUES - (mean / N_VALUES) ** 2;
  return { ...shown, accuracy, variance };
}

export default {
  render({ model, el }) {
    const panel = new Panel(model, el, "Capacity lab", ["seed"]);
    const n_most = panel.limits.n_pairs.max;
    panel.addButton("Store one more pair", () => panel.set("n_pairs", model.get("n_pairs") + 1));
    panel.addButton("Other pairs", () => panel.set("seed", model.get("seed") + 4));
    const matrix = panel.add(heatmap("Association matrix A (row: feature, column: symbol)"));
    const margins = panel.add(
      chart("Recall of each pair", "pair (in the order of writing)", "lead of the right symbol", {
        right: "armt-right",
        wrong: "armt-wrong",
      }),
    );
    const curve = panel.add(
      chart("Accuracy against number of pairs", "stored pairs (number)", "recalled (share)", {
        measured: "armt-measured",
        "adding, in theory": "armt-theory",
        guessing: "armt-guessing",
      }),
    );

    /** Chance that one plus noise of this size beats fifteen other noises, from Python's table. */
    const { chances, least, per_decade } = model.get("theory");
    const theory = (deviation) => {
      const place = Math.max(0, Math.log10(deviation / least) * per_decade);
      const index = Math.min(chances.length - 2, Math.floor(place));
      const share = Math.min(1, place - index);
      return (1 - share) * chances[index] + share * chances[index + 1];
    };

    let known, result;
    return panel.start(() => {
      const { n_pairs, ...settings } = Object.fromEntries(
        panel.names.map((name) => [name, model.get(name)]),
      );
      if (known !== JSON.stringify(settings)) {
        known = JSON.stringify(settings);
        result = experiment({ ...settings, n_most });
      }
      const { pairs, states, accuracy, variance } = result;
      const state = states[n_pairs];
      matrix.draw(state.associations, state.dKey, state.dValue);
      const leads = pairs.slice(0, n_pairs).map((pair) => lead(answerOf(state, pair), pair));
      const right = leads.filter((x) => x > 0).length;
      panel.summary.textContent = n_pairs
        ? `${n_pairs} pairs in a matrix of ${state.dKey} × ${state.dValue}: ` +
          `${right} recalled, ${n_pairs - right} not. ` +
          `Mean of ${N_MEMORIES} such memories: ${(100 * accuracy[n_pairs]).toFixed(1)} %.`
        : `An empty matrix of ${state.dKey} × ${state.dValue}.`;
      margins.draw(
        { bars: leads.map((x, i) => [i + 1, x, x > 0 ? "armt-right" : "armt-wrong"]) },
        [0, n_most + 1, -1, 1.5],
        `Recall of each pair: ${right} of ${n_pairs} right`,
      );
      const range = Array.from({ length: n_most }, (_, i) => i + 1);
      curve.draw(
        {
          lines: {
            "armt-guessing": [[0, 1 / N_VALUES], [n_most, 1 / N_VALUES]],
            "armt-theory": range.map((n) => [n, n === 1 ? 1 : theory(Math.sqrt((n - 1) * variance))]),
            "armt-measured": range.map((n) => [n, accuracy[n]]),
          },
          points: n_pairs ? [[n_pairs, accuracy[n_pairs], "armt-point"]] : [],
        },
        [0, n_most, 0, 1],
        `Accuracy from ${accuracy[1].toFixed(2)} at 1 pair to ${accuracy[n_most].toFixed(2)} at ${n_most}`,
      );
    });
  },
};
