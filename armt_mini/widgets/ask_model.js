/** Ask a model: trained models read pairs one by one, and are asked for keys. */

import { loadModel, softmaxOf } from "./engine.js";
import { Panel, chart, element, heatmap, reachOf, uniforms } from "./parts.js";

const N_DIGITS = 16;
const [SEPARATOR, QUERY, END] = [16, 17, 18];
const PAUSE = 250; // milliseconds since the reader last moved something
const STYLES = ["armt-measured", "armt-other"];

/** "3:7, 11:2" -> [[3, 7], [11, 2]], and the first word that is no pair. */
function parsePairs(text) {
  const words = text.split(/[\s,;]+/).filter((word) => word);
  const isPair = (word) => /^\d+:\d+$/.test(word) && word.split(":").every((digit) => digit < N_DIGITS);
  return {
    pairs: words.filter(isPair).map((word) => word.split(":").map(Number)),
    wrong: words.find((word) => !isPair(word)),
  };
}

function drawnPairs(seed, count) {
  const drawn = uniforms(seed, 2 * count);
  return Array.from({ length: count }, (_, i) =>
    [drawn[2 * i], drawn[2 * i + 1]].map((x) => Math.floor(N_DIGITS * x)),
  );
}

/** Which digit has the largest logit, of all tokens. */
const largest = (logits) => logits.indexOf(Math.max(...logits));

/** One model and one text: states after 0, 1, 2, … pairs, and answers, each computed when needed. */
class Reader {
  constructor(model, pairs) {
    this.model = model;
    this.pairs = pairs;
    this.states = [model.emptyStates()];
    this.known = []; // what was computed with layer 0 (none), 1, 2, … erased
    this.erase(0);
  }

  /** From now on the memory of this layer (from 1 on; 0 for none) is emptied before asking. */
  erase(layer) {
    this.erased = layer;
    this.known[layer] ??= { answers: [], shares: [] };
    this.answers = this.known[layer].answers;
    this.shares = this.known[layer].shares;
  }

  statesAfter(n) {
    while (this.states.length <= n) {
      const [key, value] = this.pairs[this.states.length - 1];
      const states = this.model.memorise([key, SEPARATOR, value, END], this.states.at(-1));
      this.states.push(states);
    }
    return this.states[n].map((state, layer) => (layer === this.erased - 1 ? this.states[0][layer] : state));
  }

  /** Logits for every key after n pairs. */
  answersAfter(n) {
    this.answers[n] ??= Array.from({ length: N_DIGITS }, (_, key) =>
      this.model.ask([key, QUERY], this.statesAfter(n)),
    );
    return this.answers[n];
  }

  /** The latest value of each key that is stored after n pairs. */
  stored(n) {
    return new Map(this.pairs.slice(0, n));
  }

  /** How many of the stored keys are answered with their latest value. */
  right(n) {
    const answers = this.answersAfter(n);
    return [...this.stored(n)].filter(([key, value]) => largest(answers[key]) === value).length;
  }

  share(n) {
    this.shares[n] ??= this.right(n) / this.stored(n).size;
    return this.shares[n];
  }
}

export default {
  render({ model, el }) {
    const panel = new Panel(model, el, "Ask a model", ["seed", "typed"]);
    const n_most = panel.limits.n_read.max;
    const models = model.get("models").map(({ name, weights }) => ({ name, model: loadModel(weights) }));
    const depths = models.map((one) => one.model.emptyStates().length);

    const input = element("input", { type: "text", name: "typed", placeholder: "drawn by lot; or type 3:7 11:2 3:9" });
    const problem = element("p", { class: "armt-problem", role: "alert" });
    input.addEventListener("input", () => {
      panel.set("typed", input.value);
      panel.set("n_read", 1); // a text of one's own is read from its start
    });
    panel.controls.after(
      element("label", { class: "armt-text" }, element("span", {}, panel.limits.typed.label), input),
      problem,
    );
    const length = () => parsePairs(model.get("typed")).pairs.length || n_most;
    panel.addButton("Read one more pair", () =>
      panel.set("n_read", Math.min(model.get("n_read") + 1, length())),
    );
    panel.addButton("Other pairs", () => {
      panel.set("typed", "");
      panel.set("seed", model.get("seed") + 1);
    });

    const text = element("p", { class: "armt-wide armt-pairs" });
    panel.add({ element: text });
    const places = models.flatMap(({ name }, i) =>
      Array.from({ length: depths[i] }, (_, layer) => ({
        model: i,
        layer,
        title: depths[i] > 1 ? `${name}, layer ${layer + 1}` : name,
      })),
    );
    const sideBySide = (part) => {
      const maps = places.map(({ title }) => heatmap(`${part}, ${title}`));
      panel.add({ element: element("div", { class: "armt-pair" }, ...maps.map((map) => map.element)) });
      return maps;
    };
    const matrices = sideBySide("Matrix A");
    const normalisers = sideBySide("z");
    const probabilities = models.map(({ name }) =>
      panel.add(chart(`Answer, ${name}`, "value", "probability", { "the stored value": "armt-right", others: "armt-wrong" })),
    );
    const curve = panel.add(
      chart("Right answers over the text", "pairs read (number)", "keys answered right (share)", {
        ...Object.fromEntries(models.map(({ name }, i) => [name, STYLES[i]])),
        guessing: "armt-guessing",
      }),
    );
    const rows = Array.from({ length: N_DIGITS }, (_, key) => {
      const cells = ["stored", ...models].map(() => element("td"));
      return { cells, row: element("tr", {}, element("th", { scope: "row" }, `${key}`), ...cells) };
    });
    const heads = ["key", "stored", ...models.map(({ name }) => name)];
    panel.add({
      element: element(
        "div",
        { class: "armt-keys" },
        element("div", { class: "armt-title" }, "Every key asked"),
        element(
          "table",
          {},
          element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
          element("tbody", {}, ...rows.map(({ row }) => row)),
        ),
      ),
    });

    let known, readers, filling;
    let pause = 0; // before the curve goes on: none until something was moved
    /**
     * Answers for the curve, a few milliseconds at a time, from the start of the text on. It waits
     * while the reader moves something, which comes first.
     */
    const fill = () => {
      const end = performance.now() + 8;
      const last = Math.min(n_most, readers[0].pairs.length);
      let n = 1;
      while (performance.now() < end && n <= last) {
        while (n <= last && readers.every(({ shares }) => n in shares)) n++;
        if (n <= last) for (const reader of readers) reader.share(n);
      }
      drawCurve();
      filling = n > last ? undefined : setTimeout(fill);
    };
    const drawCurve = () => {
      const { pairs } = readers[0];
      const n_read = Math.min(model.get("n_read"), pairs.length);
      const lines = { "armt-guessing": [[0, 1 / N_DIGITS], [n_most, 1 / N_DIGITS]] };
      const points = [];
      readers.forEach((reader, i) => {
        if (n_read) points.push([n_read, reader.share(n_read), ["armt-point", "armt-point-off"][i]]);
        lines[STYLES[i]] = reader.shares.map((share, n) => [n, share]).filter(Boolean);
      });
      const words = models.map(({ name }, i) => `${readers[i].right(n_read)} with ${name}`);
      curve.draw({ lines, points }, [0, n_most, 0, 1], `Keys answered right after ${n_read} pairs: ${words.join(", ")}`);
    };

    const stop = panel.start(() => {
      const typed = model.get("typed");
      if (input.value !== typed) input.value = typed;
      const { pairs: own, wrong } = parsePairs(typed);
      problem.textContent = wrong ? `“${wrong}” is no pair of digits 0 to 15 such as 3:7, and is left out.` : "";
      input.setAttribute("aria-invalid", `${wrong !== undefined}`);
      const pairs = own.length ? own.slice(0, n_most) : drawnPairs(model.get("seed"), n_most);
      if (known !== `${pairs}`) readers = models.map((one) => new Reader(one.model, pairs));
      const erased = model.get("erased");
      for (const reader of readers) reader.erase(erased);
      known = `${pairs}`;

      const n_read = Math.min(model.get("n_read"), pairs.length);
      const asked = model.get("asked");
      const words = pairs.slice(0, n_read).map(([key, value]) => `${key}:${value}`);
      text.textContent = n_read ? `Read: ${n_read > 12 ? "… " : ""}${words.slice(-12).join(" ")}` : "Nothing read yet.";
      const states = readers.map((reader) => reader.statesAfter(n_read));
      const limitOf = (part, layer) => Math.max(...states.map((all) => reachOf(all[layer]?.[part] ?? [])));
      places.forEach(({ model: i, layer }, place) => {
        const { associations, normaliser, dKey, dValue } = states[i][layer];
        matrices[place].draw(associations, dKey, dValue, limitOf("associations", layer));
        normalisers[place].draw(normaliser, 1, dKey, limitOf("normaliser", layer));
      });

      const stored = readers[0].stored(n_read);
      const answers = readers.map((reader) => reader.answersAfter(n_read));
      rows.forEach(({ row, cells }, key) => {
        row.classList.toggle("armt-asked", key === asked);
        const value = stored.get(key);
        [value ?? "–", ...answers.map((of) => largest(of[key]))].forEach((content, j) => {
          const isWrong = j > 0 && value !== undefined && content !== value;
          cells[j].textContent = `${content}${isWrong ? " ✗" : ""}`;
          cells[j].classList.toggle("armt-no", isWrong);
        });
      });
      answers.forEach((of, i) => {
        const shares = Array.from(softmaxOf(of[asked])).slice(0, N_DIGITS);
        probabilities[i].draw(
          { bars: shares.map((x, value) => [value, x, value === stored.get(asked) ? "armt-right" : "armt-wrong"]) },
          [-1, N_DIGITS, 0, 1],
          `Probability of each value for key ${asked}, largest for ${largest(of[asked])}`,
        );
      });
      const right = models.map(({ name }, i) => `${readers[i].right(n_read)} (${name})`).join(", ");
      panel.summary.textContent = n_read
        ? `${n_read} ${n_read === 1 ? "pair" : "pairs"} read, ${stored.size} ${stored.size === 1 ? "key" : "keys"}; right: ${right}. ` +
          `Key ${asked} ${stored.has(asked) ? `holds ${stored.get(asked)}` : "was never written"}; the answer is ` +
          `${answers.map((of, i) => `${largest(of[asked])} (${models[i].name})`).join(", ")}.`
        : "Nothing is read yet.";
      drawCurve();
      clearTimeout(filling);
      filling = setTimeout(fill, pause);
      pause = PAUSE;
    });
    return () => {
      clearTimeout(filling);
      stop();
    };
  },
};
