/**
 * The package's memory and models again, in JavaScript, so that a page can compute without Python.
 *
 * Names and order are those of the Python modules: feature_maps, memory_state, linear_attention,
 * delta_rule, gamma_correction, update_rules, transformer_block, associative_layer, armt,
 * layer_alone. There is no batch: a vector is one Float64Array, several vectors are an array of
 * them, and a matrix is one typed array, row after row. tests/test_engine.py holds every function
 * to the Python one.
 */

// ---- feature_maps: from a key or query vector x to non-negative features φ(x) -------------------

/**
 * φ(x) = elu(x) + 1, above zero everywhere: every two keys overlap.
 * @param {Float64Array} x (d)
 * @returns {Float64Array} (d)
 */
export function eluPlusOne(x) {
  return x.map((entry) => (entry > 0 ? entry : Math.expm1(entry)) + 1);
}

/**
 * φ(x) = max(x, 0): keys overlap less, and a key without a positive entry has no features.
 * @param {Float64Array} x (d)
 * @returns {Float64Array} (d)
 */
export function relu(x) {
  return x.map((entry) => Math.max(entry, 0));
}

/**
 * Deterministic parameter-free projection: with r = [relu(x), relu(−x)] of size 2d, feature (j, i)
 * is r_i · r_{i−j} for j = 1 … ν (indices wrap around).
 * @param {Float64Array} x (d)
 * @param {number} nu ν, from 1 to 2d − 1; throws RangeError for any other
 * @returns {Float64Array} (2·ν·d)
 */
export function dpfp(x, nu = 3) {
  const size = 2 * x.length;
  if (!Number.isInteger(nu) || nu < 1 || nu >= size) {
    throw new RangeError(
      `nu: expected 1 to ${size - 1} for inputs of size ${x.length} (2·size − 1), got ${nu}; ` +
        `choose a smaller nu or a larger input (d_memory).`,
    );
  }
  const rectified = new Float64Array(size); // [relu(x), relu(−x)]
  for (let i = 0; i < x.length; i++) {
    if (x[i] > 0) rectified[i] = x[i];
    else rectified[x.length + i] = -x[i];
  }
  const features = new Float64Array(nu * size);
  for (let j = 1; j <= nu; j++) {
    const row = (j - 1) * size;
    for (let i = 0; i < j; i++) features[row + i] = rectified[i] * rectified[i - j + size];
    for (let i = j; i < size; i++) features[row + i] = rectified[i] * rectified[i - j];
  }
  return features;
}

/**
 * φ/‖φ‖, so that every key weighs the same; zero features stay zero (not in the paper).
 * @param {Float64Array} features (dKey)
 * @returns {Float64Array} (dKey)
 */
export function unitLength(features) {
  const length = Math.max(Math.sqrt(innerProduct(features, features)), 1e-12);
  const scaled = new Float64Array(features.length);
  for (let i = 0; i < scaled.length; i++) scaled[i] = features[i] / length;
  return scaled;
}

/**
 * The map called `name`: "dpfp", "elu_plus_one" or "relu"; throws RangeError for any other.
 * @param {string} name
 * @param {{nu?: number, unit?: boolean}} options unit scales the features to length one
 * @returns {(x: Float64Array) => Float64Array} (d) -> (dKey)
 */
export function featureMap(name, { nu = 3, unit = false } = {}) {
  const maps = { dpfp: (x) => dpfp(x, nu), elu_plus_one: eluPlusOne, relu };
  checkOneOf("feature_map", name, Object.keys(maps));
  return unit ? (x) => unitLength(maps[name](x)) : maps[name];
}

// ---- memory_state: what a layer remembers -------------------------------------------------------

/**
 * A memory: associations A, (dKey, dValue) row after row, where row i is what feature i of a key
 * points to; and normaliser z, (dKey), how much of each key feature has been stored.
 * @typedef {{associations: Float64Array, normaliser: Float64Array, dKey: number, dValue: number}}
 *   MemoryState
 */

/**
 * A₀ = 0 and z₀ = 0. An empty memory is all zeros; nothing else marks it as empty.
 * @param {number} dKey
 * @param {number} dValue
 * @returns {MemoryState}
 */
export function emptyState(dKey, dValue) {
  const associations = new Float64Array(dKey * dValue);
  return { associations, normaliser: new Float64Array(dKey), dKey, dValue };
}

/** A and z times a share; with 1 (or none named, as in older files) the memory as it is. */
function fade(state, retention = 1) {
  if (retention === 1) return state;
  const [associations, normaliser] = [state.associations, state.normaliser].map((part) =>
    part.map((entry) => retention * entry),
  );
  return { ...state, associations, normaliser };
}

// ---- linear_attention: store by adding outer products, recall by multiplying --------------------

/**
 * Recall a value: y = φ(q)ᵀA / (φ(q)ᵀz + ε), and zero where the denominator is exactly zero.
 * @param {MemoryState} state
 * @param {Float64Array} query (dKey), already feature-mapped
 * @param {number} eps ε, at least 0
 * @param {boolean} normalise false leaves the division out, for what rule "deltanet" has written
 * @returns {Float64Array} (dValue)
 */
export function read(state, query, eps = 1e-5, normalise = true) {
  const { associations, normaliser, dKey, dValue } = state;
  checkLength("query", query, dKey);
  const recalled = new Float64Array(dValue);
  const denominator = normalise ? innerProduct(query, normaliser) + eps : 1;
  for (let i = 0; i < dKey; i++) {
    const feature = query[i];
    if (feature === 0) continue; // most features of DPFP are off
    const row = i * dValue;
    for (let j = 0; j < dValue; j++) recalled[j] += feature * associations[row + j];
  }
  for (let j = 0; j < dValue; j++) recalled[j] = quotientOrZero(recalled[j], denominator);
  return recalled;
}

/** The quotient, and zero where the denominator is exactly zero. */
function quotientOrZero(numerator, denominator) {
  return denominator === 0 ? 0 : numerator / denominator;
}

/** Store by adding: A + Σᵢ βᵢ φ(kᵢ) ⊗ vᵢ and z + Σᵢ cᵢ φ(kᵢ). counted: c, a number for each key. */
function additiveWrite(state, keys, values, strengths, counted = keys.map(() => 1)) {
  const { dKey, dValue } = state;
  const associations = state.associations.slice();
  const normaliser = state.normaliser.slice();
  keys.forEach((key, token) => {
    const value = values[token];
    for (let i = 0; i < dKey; i++) {
      if (key[i] === 0) continue;
      const row = i * dValue;
      const written = strengths[token] * key[i];
      for (let j = 0; j < dValue; j++) associations[row + j] += written * value[j];
      normaliser[i] += counted[token] * key[i];
    }
  });
  return { associations, normaliser, dKey, dValue };
}

// ---- delta_rule: overwrite what a key points to instead of adding to it -------------------------

/**
 * Add, not the values, but what they differ by from the old ones, all read from the old state.
 * erased: the share of each old value that is taken out. normalise: as in `read`.
 */
function deltaWrite(
  state,
  keys,
  values,
  strengths,
  eps,
  counted,
  erased = keys.map(() => 1),
  normalise = true,
) {
  const differences = keys.map((key, token) => {
    const old = read(state, key, eps, normalise);
    for (let j = 0; j < old.length; j++) old[j] = values[token][j] - erased[token] * old[j];
    return old; // the difference now
  });
  return additiveWrite(state, keys, differences, strengths, counted);
}

// ---- gamma_correction: count a key only as far as it is not counted yet -------------------------

/**
 * The part of a key that z does not hold yet: γ = 1 − (zᵀφ(k) + ε) / (‖φ(k)‖² + ε), and 1 where z
 * is all zero.
 * @param {Float64Array} normaliser z, (dKey)
 * @param {Float64Array} key (dKey), already feature-mapped
 * @param {number} eps ε, at least 0
 * @param {boolean} clip keeps γ in [0, 1], as the released code does and the paper does not
 * @returns {number}
 */
export function gamma(normaliser, key, eps = 1e-5, clip = true) {
  checkLength("key", key, normaliser.length);
  if (normaliser.every((entry) => entry === 0)) return 1;
  const overlap = innerProduct(normaliser, key);
  const missing = 1 - quotientOrZero(overlap + eps, innerProduct(key, key) + eps);
  return clip ? Math.min(Math.max(missing, 0), 1) : missing;
}

/**
 * The delta rule, with only what is missing counted: z + Σᵢ γᵢ φ(kᵢ). Without eraseAll only the
 * share 1 − γ of the old value is taken out.
 */
function gammaWrite(state, keys, values, strengths, eps, clipGamma, eraseAll = true) {
  const counted = keys.map((key) => gamma(state.normaliser, key, eps, clipGamma));
  const erased = eraseAll ? undefined : counted.map((share) => 1 - share);
  return deltaWrite(state, keys, values, strengths, eps, counted, erased);
}

// ---- update_rules: the ways to write, by name ---------------------------------------------------

/**
 * Store values under keys and return the new memory; the old one stays as it is.
 * All keys of one call see the state before it.
 * @param {MemoryState} state
 * @param {Float64Array[]} keys each (dKey), already feature-mapped
 * @param {Float64Array[]} values each (dValue), one for each key
 * @param {ArrayLike<number>} strengths β in [0, 1], one for each key; they scale what is written
 *   into A, never what is added to z
 * @param {string} rule "additive" (linear attention), "delta" (ARMT without γ), "gamma" (ARMT),
 *   "gamma_erase" (γ says also how much is erased) or "deltanet" (no normaliser, z stays as it is)
 * @param {{eps?: number, clipGamma?: boolean}} options ε of `read` and `gamma`, clip of `gamma`
 * @returns {MemoryState}
 */
export function write(
  state,
  keys,
  values,
  strengths,
  rule = "gamma",
  { eps = 1e-5, clipGamma = true } = {},
) {
  checkLength("values", values, keys.length);
  checkLength("strengths", strengths, keys.length);
  keys.forEach((key) => checkLength("key", key, state.dKey));
  values.forEach((value) => checkLength("value", value, state.dValue));
  const rules = {
    additive: () => additiveWrite(state, keys, values, strengths),
    delta: () => deltaWrite(state, keys, values, strengths, eps),
    gamma: () => gammaWrite(state, keys, values, strengths, eps, clipGamma),
    gamma_erase: () => gammaWrite(state, keys, values, strengths, eps, clipGamma, false),
    deltanet: () => {
      const counted = keys.map(() => 0);
      return deltaWrite(state, keys, values, strengths, eps, counted, undefined, false);
    },
  };
  checkOneOf("rule", rule, Object.keys(rules));
  return rules[rule]();
}

// ---- transformer_block: the GPT-2 block ---------------------------------------------------------

/**
 * A weight as it lies in a file: `data` row after row, and its shape.
 * @typedef {{shape: number[], data: Float64Array}} Weight
 */

/** h + attention(norm(h)), then h + mlp(norm(h)). hidden: (dModel) of every token. */
function transformerBlock(weights, hidden, nHeads) {
  const { attention_norm_scale, attention_norm_shift, mlp_norm_scale, mlp_norm_shift } = weights;
  const normed = hidden.map((x) => learnedNorm(x, attention_norm_scale, attention_norm_shift));
  const attended = causalAttention(weights, normed, nHeads);
  const mixed = hidden.map((x, token) => vectorSum(x, attended[token]));
  const inputs = mixed.map((x) => learnedNorm(x, mlp_norm_scale, mlp_norm_shift));
  return geluMlp(weights, inputs).map((x, token) => vectorSum(mixed[token], x));
}

/** Causal attention: a token looks at itself and at what stands before it in its segment. */
function causalAttention(weights, x, nHeads) {
  const dModel = x[0].length;
  const dHead = dModel / nHeads;
  // (3·dModel) of every token: all heads of its query, then of its key, then of its value
  const mixed = linearMap(weights, "attention_in", x);
  const attended = mixed.map((own, token) => {
    const seen = new Float64Array(dModel);
    const scores = new Float64Array(token + 1);
    for (let start = 0; start < dModel; start += dHead) {
      const end = start + dHead;
      for (let other = 0; other <= token; other++) {
        let score = 0;
        for (let i = start; i < end; i++) score += own[i] * mixed[other][dModel + i];
        scores[other] = score / Math.sqrt(dHead);
      }
      const shares = softmaxOf(scores);
      for (let other = 0; other <= token; other++) {
        for (let i = start; i < end; i++) seen[i] += shares[other] * mixed[other][2 * dModel + i];
      }
    }
    return seen;
  });
  return linearMap(weights, "attention_out", attended);
}

/** Two linear maps with GELU (in its tanh form) between them, at each position alone. */
function geluMlp(weights, x) {
  const inner = linearMap(weights, "mlp_in", x);
  for (const token of inner) {
    for (let i = 0; i < token.length; i++) token[i] = geluTanh(token[i]);
  }
  return linearMap(weights, "mlp_out", inner);
}

function geluTanh(x) {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
}

/**
 * Shares that sum to one: the exponentials of the scores, divided by their sum.
 * @param {Float64Array} scores (n)
 * @returns {Float64Array} (n)
 */
export function softmaxOf(scores) {
  let [largest, total] = [-Infinity, 0];
  for (let i = 0; i < scores.length; i++) largest = Math.max(largest, scores[i]);
  const shares = new Float64Array(scores.length);
  for (let i = 0; i < shares.length; i++) {
    shares[i] = Math.exp(scores[i] - largest);
    total += shares[i];
  }
  for (let i = 0; i < shares.length; i++) shares[i] /= total;
  return shares;
}

/** LayerNorm with its learned scale and shift, both (dModel). */
function learnedNorm(x, { data: scale }, { data: shift }) {
  const normed = layerNorm(x);
  for (let i = 0; i < normed.length; i++) normed[i] = normed[i] * scale[i] + shift[i];
  return normed;
}

/** LayerNorm without parameters: mean zero and variance one. */
function layerNorm(x) {
  let [sum, squares] = [0, 0];
  for (let i = 0; i < x.length; i++) sum += x[i];
  const mean = sum / x.length;
  for (let i = 0; i < x.length; i++) squares += (x[i] - mean) ** 2;
  const deviation = Math.sqrt(squares / x.length + 1e-5); // PyTorch's default
  const normed = new Float64Array(x.length);
  for (let i = 0; i < x.length; i++) normed[i] = (x[i] - mean) / deviation;
  return normed;
}

/** x W + b at every position. */
function linearMap(weights, name, x) {
  const bias = weights[`${name}_bias`].data;
  return project(x, weights[`${name}_weight`], x.map(() => bias.slice()));
}

// ---- associative_layer: read the memory, run the block, write the memory ------------------------

/** One segment through one layer. The last n_memory_tokens of `hidden` are memory tokens. */
function associativeLayer(weights, hidden, state, config) {
  const informed = readMemory(weights, hidden, state, config);
  const mixed = transformerBlock(weights, informed, config.n_heads);
  const memoryTokens = mixed.slice(-config.n_memory_tokens);
  return { hidden: mixed, ...writeMemory(weights, memoryTokens, state, config) };
}

/** Add to what stands at every position what the memory recalls for it. */
function readMemory(weights, hidden, state, config) {
  const inputs = hidden.map((x) => memoryInput(x, config));
  return project(inputs, weights.memory_query_weight).map((query, token) =>
    vectorSum(hidden[token], recall(state, featuresOf(query, config), config)),
  );
}

/** Read what the rule of the configuration has written. */
function recall(state, query, { eps, rule }) {
  return read(state, query, eps, rule !== "deltanet");
}

/** Write key, value and strength of every memory token. */
function writeMemory(weights, memoryTokens, state, config) {
  const inputs = memoryTokens.map((x) => memoryInput(x, config));
  const keys = project(inputs, weights.memory_key_weight).map((key) => featuresOf(key, config));
  const values = project(inputs, weights.memory_value_weight);
  const strengths = Float64Array.from(linearMap(weights, "memory_strength", inputs), ([x]) =>
    strengthOf(x, config),
  );
  const options = { eps: config.eps, clipGamma: config.clip_gamma };
  const left = fade(state, config.retention);
  return { state: write(left, keys, values, strengths, config.rule, options), strengths };
}

/** β of a memory token: the weakest writes are left out. */
function strengthOf(x, { min_strength: least = 0 }) {
  const strength = logisticSigmoid(x);
  return strength < least ? 0 : strength;
}

/** What the memory projections see. */
function memoryInput(x, config) {
  return config.memory_norm ? layerNorm(x) : x;
}

/** φ(x), as the configuration chooses it. */
function featuresOf(x, config) {
  return featureMap(config.feature_map, { nu: config.nu, unit: config.unit_features })(x);
}

function logisticSigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}

// ---- segment_recurrence: reading a long text segment by segment ---------------------------------

/**
 * What a page sees after a segment: every layer's memory, and the strengths β with which its
 * memory tokens (for a LayerAlone its pair) were written in every layer.
 * @typedef {{states: MemoryState[], strengths: Float64Array[]}} AfterSegment
 */

/** What both models do alike. A model adds segmentLength, readSegment and answer. */
class SegmentRecurrence {
  constructor(kind, config, weights) {
    /** "armt" or "layer-alone" */
    this.kind = kind;
    /** the configuration under its names in Python: config.segment_length, config.rule, ... */
    this.config = config;
    this.weights = weights;
    this.sizes = sizesOf(this.emptyStates());
  }

  /**
   * What the first segment is handed.
   * @returns {MemoryState[]} one a layer
   */
  emptyStates() {
    const { d_memory, d_model, n_layers = 1 } = this.config;
    const dKey = featuresOf(new Float64Array(d_memory), this.config).length;
    return Array.from({ length: n_layers }, () => emptyState(dKey, d_model));
  }

  /**
   * Read one segment or several, and keep the memories after each. The last may be shorter.
   * @param {ArrayLike<number>} tokens
   * @param {MemoryState[]} states what an earlier call returned; left as they are
   * @returns {AfterSegment[]} one a segment
   */
  segments(tokens, states = this.emptyStates()) {
    this.check("tokens", tokens, states);
    const after = [];
    for (let start = 0; start < tokens.length; start += this.segmentLength) {
      after.push(this.readSegment(tokens.slice(start, start + this.segmentLength), states));
      states = after.at(-1).states;
    }
    return after;
  }

  /**
   * Read tokens for the states alone.
   * @param {ArrayLike<number>} tokens
   * @param {MemoryState[]} states
   * @returns {MemoryState[]} one a layer
   */
  memorise(tokens, states = this.emptyStates()) {
    return this.segments(tokens, states).at(-1).states;
  }

  /**
   * The logits of the token that follows a question, as if the question were the next segment.
   * @param {ArrayLike<number>} question at most one segment of tokens
   * @param {MemoryState[]} states what `memorise` returned; left as they are
   * @returns {Float64Array} (vocabSize)
   */
  ask(question, states) {
    this.check("question", question, states);
    if (question.length > this.segmentLength) {
      throw new RangeError(
        `question: expected at most ${this.segmentLength} tokens, got ${question.length}; ` +
          `read what is longer with memorise first.`,
      );
    }
    return this.answer(question, states);
  }

  check(name, tokens, states) {
    const largest = this.config.vocab_size - 1;
    const wrong = Array.from(tokens).find((t) => !(Number.isInteger(t) && t >= 0 && t <= largest));
    if (tokens.length === 0 || wrong !== undefined) {
      throw new RangeError(`${name}: expected one or more of 0 to ${largest}, got ${wrong}.`);
    }
    const sizes = sizesOf(states);
    if (sizes !== this.sizes) {
      throw new RangeError(`states: expected sizes ${this.sizes}, got ${sizes}.`);
    }
  }
}

/** The sizes of the memories, layer by layer, in words. */
function sizesOf(states) {
  return states.map(({ dKey, dValue }) => `${dKey} × ${dValue}`).join(", ");
}

// ---- armt: a GPT-2 with a memory in every layer -------------------------------------------------

class ARMT extends SegmentRecurrence {
  constructor(config, weights) {
    super("armt", config, weights);
    this.segmentLength = config.segment_length;
    this.layers = unstackedLayers(weights, config.n_layers);
  }

  /** One segment through all layers. */
  readSegment(tokens, states) {
    let hidden = [...this.embed(tokens), ...this.memoryTokens()];
    const after = { states: [], strengths: [] };
    this.layers.forEach((weights, layer) => {
      const result = associativeLayer(weights, hidden, states[layer], this.config);
      hidden = result.hidden;
      after.states.push(result.state);
      after.strengths.push(result.strengths);
    });
    return after;
  }

  answer(question, states) {
    // No memory token is needed: they come last, and nothing before them sees them.
    let hidden = this.embed(question);
    this.layers.forEach((weights, layer) => {
      const informed = readMemory(weights, hidden, states[layer], this.config);
      hidden = transformerBlock(weights, informed, this.config.n_heads);
    });
    return this.logits(hidden.at(-1));
  }

  /** Token and position embeddings; every segment counts positions from zero. */
  embed(tokens) {
    const { token_embedding, position_embedding } = this.weights;
    return Array.from(tokens, (token, position) =>
      vectorSum(matrixRow(token_embedding, token), matrixRow(position_embedding, position)),
    );
  }

  /** The same learned embeddings in every segment, at the last rows of the position table. */
  memoryTokens() {
    const { memory_embedding, position_embedding } = this.weights;
    const n = this.config.n_memory_tokens;
    const first = position_embedding.shape[0] - n;
    return Array.from({ length: n }, (_, i) =>
      vectorSum(matrixRow(memory_embedding, i), matrixRow(position_embedding, first + i)),
    );
  }

  /** Scores of the next token, from what leaves the last layer. */
  logits(x) {
    const { "final_norm.weight": scale, "final_norm.bias": shift } = this.weights;
    const normed = learnedNorm(x, scale, shift);
    const head = this.weights.head ?? this.weights.token_embedding; // tied_head has no own one
    return Float64Array.from({ length: this.config.vocab_size }, (_, token) =>
      innerProduct(normed, matrixRow(head, token)),
    );
  }
}

/** The weights layer by layer, as views of the stacked ones: "layers.NAME", (nLayers, ...). */
function unstackedLayers(weights, nLayers) {
  const stacked = Object.entries(weights).filter(([name]) => name.startsWith("layers."));
  return Array.from({ length: nLayers }, (_, layer) =>
    Object.fromEntries(
      stacked.map(([name, { shape, data }]) => {
        const size = data.length / nLayers;
        const view = data.subarray(layer * size, (layer + 1) * size);
        return [name.replace("layers.", ""), { shape: shape.slice(1), data: view }];
      }),
    ),
  );
}

// ---- layer_alone: the associative layer without its transformer ---------------------------------

class LayerAlone extends SegmentRecurrence {
  constructor(config, weights) {
    super("layer-alone", config, weights);
    this.segmentLength = 4; // one pair: key, SEPARATOR, value, END
  }

  readSegment(pair, [state]) {
    checkLength("tokens of a pair", pair, this.segmentLength);
    const { key_embedding, value_embedding, ...weights } = this.weights;
    const memoryToken = vectorSum(
      matrixRow(key_embedding, pair[0]),
      matrixRow(value_embedding, pair[2]),
    );
    const [key] = project([memoryToken], weights.key_weight);
    const [value] = project([memoryToken], weights.value_weight);
    const [[x]] = linearMap(weights, "strength", [memoryToken]);
    const { rule, eps, clip_gamma: clipGamma, retention } = this.config;
    const strengths = Float64Array.of(strengthOf(x, this.config));
    const keys = [featuresOf(key, this.config)];
    const left = fade(state, retention);
    const written = write(left, keys, [value], strengths, rule, { eps, clipGamma });
    return { states: [written], strengths: [strengths] };
  }

  answer(question, [state]) {
    const { key_embedding, query_weight, head } = this.weights;
    const [query] = project([matrixRow(key_embedding, question[0])], query_weight);
    return project([recall(state, featuresOf(query, this.config), this.config)], head)[0];
  }
}

// ---- checkpoints: weights and what they belong to, in one safetensors file ----------------------

/**
 * The content of a safetensors file: its length, a header in JSON, then the numbers.
 * @param {Uint8Array|DataView} bytes the whole file
 * @returns {{metadata: Object<string, string>, tensors: Object<string, Weight>}} tensors by name;
 *   F64, F32, F16 and BF16 all become 64-bit numbers, as what they are multiplied with; any other
 *   kind is an Error
 */
export function parseSafetensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerEnd = 8 + (view.byteLength < 8 ? 0 : Number(view.getBigUint64(0, true)));
  if (headerEnd > view.byteLength || headerEnd === 8) {
    throw new Error(`bytes: expected a safetensors file, got ${view.byteLength} bytes of another.`);
  }
  // A copy starts at a multiple of its numbers' size, which a view into the file may not.
  const copyOf = (start, end) =>
    view.buffer.slice(view.byteOffset + start, view.byteOffset + end);
  const header = JSON.parse(new TextDecoder().decode(copyOf(8, headerEnd)));
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(entries)) {
    checkOneOf(`type of ${name}`, dtype, Object.keys(NUMBERS_FROM_BYTES));
    const content = copyOf(...offsets.map((offset) => headerEnd + offset));
    tensors[name] = { shape, data: NUMBERS_FROM_BYTES[dtype](content) };
  }
  return { metadata, tensors };
}

const NUMBERS_FROM_BYTES = {
  F64: (content) => new Float64Array(content),
  F32: (content) => new Float64Array(new Float32Array(content)),
  F16: (content) => Float64Array.from(new Uint16Array(content), numberFromHalf),
  // bfloat16 is the upper half of a float32
  BF16: (content) =>
    new Float64Array(
      new Float32Array(Uint32Array.from(new Uint16Array(content), (bits) => bits << 16).buffer),
    ),
};

/** The number that 16 bits hold: one of sign, five of exponent, ten of fraction. */
function numberFromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * The model in a file of the package's `save_checkpoint`: an ARMT or a LayerAlone.
 * @param {Uint8Array|DataView} bytes the whole file
 * @returns {SegmentRecurrence} with kind, config, emptyStates, segments, memorise and ask
 */
export function loadModel(bytes) {
  const { metadata, tensors } = parseSafetensors(bytes);
  const { system, config } = JSON.parse(metadata.about);
  const models = { armt: ARMT, "layer-alone": LayerAlone };
  checkOneOf("system", system, Object.keys(models));
  const weights = {};
  for (const [name, weight] of Object.entries(tensors)) {
    if (name.startsWith("model.")) weights[name.replace("model.", "")] = weight;
  }
  // Files older than the choice of feature maps name none: theirs is DPFP.
  return new models[system]({ feature_map: "dpfp", ...config }, weights);
}

// ---- what all of it needs -----------------------------------------------------------------------

/**
 * x W at every position, added to y. weight: (rows, columns). Two positions at a time, for then an
 * entry of W is read half as often.
 */
function project(x, weight, y = x.map(() => new Float64Array(weight.shape[1]))) {
  for (let token = 0; token < x.length; token += 2) {
    const spare = token + 1 === x.length; // the last of an odd number is computed twice
    const other = spare ? token : token + 1;
    addProducts(x[token], x[other], weight, y[token], spare ? y[token].slice() : y[other]);
  }
  return y;
}

/** y + x W for two vectors, four rows at a time: y is read and written a quarter as often. */
function addProducts(x1, x2, { shape: [rows, columns], data }, y1, y2) {
  let i = 0;
  for (; i + 4 <= rows; i += 4) {
    const [a1, b1, c1, d1] = [x1[i], x1[i + 1], x1[i + 2], x1[i + 3]];
    const [a2, b2, c2, d2] = [x2[i], x2[i + 1], x2[i + 2], x2[i + 3]];
    const first = i * columns;
    const [second, third, fourth] = [first + columns, first + 2 * columns, first + 3 * columns];
    for (let j = 0; j < columns; j++) {
      const a = data[first + j];
      const b = data[second + j];
      const c = data[third + j];
      const d = data[fourth + j];
      y1[j] += a1 * a + b1 * b + c1 * c + d1 * d;
      y2[j] += a2 * a + b2 * b + c2 * c + d2 * d;
    }
  }
  for (; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      y1[j] += x1[i] * data[i * columns + j];
      y2[j] += x2[i] * data[i * columns + j];
    }
  }
}

/** Row i of a matrix, as a view. */
function matrixRow({ shape: [, columns], data }, i) {
  return data.subarray(i * columns, (i + 1) * columns);
}

/** a + b of two vectors of one length. */
function vectorSum(a, b) {
  const sum = new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) sum[i] = a[i] + b[i];
  return sum;
}

/**
 * Σᵢ aᵢ bᵢ of two vectors of one length.
 * @param {ArrayLike<number>} a (n)
 * @param {ArrayLike<number>} b (n)
 * @returns {number}
 */
export function innerProduct(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function checkLength(name, vector, expected) {
  if (vector.length !== expected) {
    throw new RangeError(`${name}: expected ${expected} entries, got ${vector.length}.`);
  }
}

function checkOneOf(name, value, allowed) {
  if (!allowed.includes(value)) {
    throw new RangeError(`${name}: expected one of ${allowed.join(", ")}; got ${value}.`);
  }
}
