/** Capacity lab: how many random pairs one matrix holds, by rule, feature map and dimension. */

import { emptyState, featureMap, innerProduct, write } from "./engine.js";
import { Panel, chart, heatmap, normals, uniforms } from "./parts.js";

const N_VALUES = 16;
const N_MEMORIES = 4; // the first is shown, the curve is the mean of all

/** The random numbers of a seed. Smaller keys take the first of them. */
let drawn = {};
function draw(seed, count) {
  if (drawn.seed !== seed || drawn.own.length < count)
    drawn = { seed, own: normals(seed, count), error: normals(seed + 1, count) };
  return drawn;
}

/** Random keys of length one, queries near them, and the symbol stored under each key. */
function drawPairs({ d_memory, n_most, overlap, noise, seed }) {
  const count = N_MEMORIES * n_most;
  const { own, error } = draw(seed, count * d_memory);
  const common = normals(seed + 2, 64); // an even number, at least d_memory
  const symbols = uniforms(seed + 3, count);
  const [ownShare, commonShare] = [Math.sqrt(1 - overlap), Math.sqrt(overlap)];
  return Array.from(symbols, (uniform, pair) => {
    const start = pair * d_memory;
    const key = new Float64Array(d_memory);
    for (let i = 0; i < d_memory; i++) key[i] = ownShare * own[start + i] + commonShare * common[i];
    const length = Math.sqrt(innerProduct(key, key));
    const query = new Float64Array(d_memory);
    for (let i = 0; i < d_memory; i++) {
      key[i] /= length;
      query[i] = key[i] + (noise / Math.sqrt(d_memory)) * error[start + i];
    }
    return { key, query, symbol: Math.floor(N_VALUES * uniform) };
  });
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

/** v, where A has grown by φ(k) ⊗ v. Taken from the row in which the key is largest. */
function growth(before, after, key) {
  let row = 0;
  for (let i = 1; i < key.length; i++) if (Math.abs(key[i]) > Math.abs(key[row])) row = i;
  const grown = new Float64Array(N_VALUES);
  if (key[row] === 0) return grown; // ReLU may leave nothing of a key
  for (let j = 0; j < N_VALUES; j++) {
    const entry = row * N_VALUES + j;
    grown[j] = (after.associations[entry] - before.associations[entry]) / key[row];
  }
  return grown;
}

/** φ(k)ᵀφ(q) for the query of every pair. Most features of DPFP are off. */
function overlapsOf(key, pairs) {
  const on = [];
  for (let i = 0; i < key.length; i++) if (key[i] !== 0) on.push(i);
  const overlaps = new Float64Array(pairs.length);
  for (let pair = 0; pair < pairs.length; pair++) {
    const { query } = pairs[pair];
    let overlap = 0;
    for (let n = 0; n < on.length; n++) overlap += key[on[n]] * query[on[n]];
    overlaps[pair] = overlap;
  }
  return overlaps;
}

/** A has grown by φ(k) ⊗ v: each answer grows by φ(q)ᵀφ(k) v. */
function growAll(answers, overlaps, grown) {
  for (let i = 0; i < answers.length; i++) {
    const [answer, overlap] = [answers[i], overlaps[i]];
    for (let j = 0; j < N_VALUES; j++) answer[j] += overlap * grown[j];
  }
}

/** How many of the first n answers are right. */
function countRight(answers, pairs, n) {
  let count = 0;
  for (let i = 0; i < n; i++) if (lead(answers[i], pairs[i]) > 0) count++;
  return count;
}

/** Variance of what another key adds to an entry of an answer, in which the own key weighs one. */
function disturbance(overlaps) {
  let [sum, squares, count] = [0, 0, 0];
  for (let asked = 0; asked < overlaps.length; asked++) {
    const signal = overlaps[asked][asked];
    if (signal === 0) continue;
    for (let other = 0; other < overlaps.length; other++) {
      if (other === asked) continue;
      const share = overlaps[other][asked] / signal;
      sum += share;
      squares += share ** 2;
      count++;
    }
  }
  return squares / count / N_VALUES - (sum / count / N_VALUES) ** 2;
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
  const { n_most, rule } = settings;
  const right = new Float64Array(n_most + 1);
  let shown;
  for (let memory = 0; memory < N_MEMORIES; memory++) {
    const own = pairs.slice(memory * n_most, (memory + 1) * n_most);
    let state = emptyState(own[0].key.length, N_VALUES);
    const states = [state]; // kept of the first memory
    const answers = own.map(() => new Float64Array(N_VALUES)); // of A after n pairs
    const overlaps = []; // φ(k)ᵀφ(q), key by key
    for (let n = 1; n <= n_most; n++) {
      const { key, value } = own[n - 1];
      const before = state;
      state = write(before, [key], [value], [1], rule);
      if (memory === 0) states.push(state);
      overlaps.push(overlapsOf(key, own));
      growAll(answers, overlaps[n - 1], growth(before, state, key));
      right[n] += countRight(answers, own, n);
    }
    shown ??= { pairs: own, states, overlaps };
  }
  const accuracy = right.map((count, n) => (n ? count / (n * N_MEMORIES) : 1));
  return { ...shown, accuracy, variance: disturbance(shown.overlaps) };
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
