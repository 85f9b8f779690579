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
  const rectified = new Float64Array(size);
  rectified.set(relu(x), 0);
  rectified.set(relu(x.map((entry) => -entry)), x.length);
  const features = new Float64Array(nu * size);
  for (let j = 1; j <= nu; j++) {
    for (let i = 0; i < size; i++) {
      features[(j - 1) * size + i] = rectified[i] * rectified[(i - j + size) % size];
    }
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
  return features.map((entry) => entry / length);
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

// ---- linear_attention: store by adding outer products, recall by multiplying --------------------

/**
 * Recall a value: y = φ(q)ᵀA / (φ(q)ᵀz + ε), and zero where the denominator is exactly zero.
 * @param {MemoryState} state
 * @param {Float64Array} query (dKey), already feature-mapped
 * @param {number} eps ε, at least 0
 * @returns {Float64Array} (dValue)
 */
export function read(state, query, eps = 1e-5) {
  const { associations, normaliser, dKey, dValue } = state;
  checkLength("query", query, dKey);
  const recalled = new Float64Array(dValue);
  const denominator = innerProduct(query, normaliser) + eps;
  for (let i = 0; i < dKey; i++) {
    if (query[i] === 0) continue; // most features of DPFP are off
    const row = i * dValue;
    for (let j = 0; j < dValue; j++) recalled[j] += query[i] * associations[row + j];
  }
  return recalled.map((entry) => quotientOrZero(entry, denominator));
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
    for (let i = 0; i < dKey; i++) {
      if (key[i] === 0) continue;
      const row = i * dValue;
      const written = strengths[token] * key[i];
      for (let j = 0; j < dValue; j++) associations[row + j] += written * values[token][j];
      normaliser[i] += counted[token] * key[i];
    }
  });
  return { associations, normaliser, dKey, dValue };
}

// ---- delta_rule: overwrite what a key points to instead of adding to it -------------------------

/** Add, not the values, but what they differ by from the old ones, all read from the old state. */
function deltaWrite(state, keys, values, strengths, eps, counted) {
  const differences = keys.map((key, token) => {
    const old = read(state, key, eps);
    return old.map((entry, j) => values[token][j] - entry);
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

/** The delta rule, with only what is missing counted: z + Σᵢ γᵢ φ(kᵢ). */
function gammaWrite(state, keys, values, strengths, eps, clipGamma) {
  const counted = keys.map((key) => gamma(state.normaliser, key, eps, clipGamma));
  return deltaWrite(state, keys, values, strengths, eps, counted);
}

// ---- update_rules: the three ways to write, by name ---------------------------------------------

/**
 * Store values under keys and return the new memory; the old one stays as it is.
 * All keys of one call see the state before it.
 * @param {MemoryState} state
 * @param {Float64Array[]} keys each (dKey), already feature-mapped
 * @param {Float64Array[]} values each (dValue), one for each key
 * @param {ArrayLike<number>} strengths β in [0, 1], one for each key; they scale what is written
 *   into A, never what is added to z
 * @param {string} rule "additive" (linear attention), "delta" (ARMT without γ) or "gamma" (ARMT)
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
  };
  checkOneOf("rule", rule, Object.keys(rules));
  return rules[rule]();
}

// ---- what all of it needs -----------------------------------------------------------------------

/** Σᵢ aᵢ bᵢ of two vectors of one length. */
function innerProduct(a, b) {
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
