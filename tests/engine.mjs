// Runs a JavaScript engine for tests/test_engine.py: `node engine.mjs PATH_OF_ENGINE`.
// Each line that comes in is [function, ...arguments] in JSON; each that goes out is its result.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const engine = await import(pathToFileURL(process.argv[2]));

// As a page may hold a file's bytes: a view that begins anywhere.
function viewOf(file) {
  const content = readFileSync(file);
  const shifted = new Uint8Array(3 + content.length);
  shifted.set(content, 3);
  return new DataView(shifted.buffer, 3);
}

const models = {};
const modelOf = (file) => (models[file] ??= engine.loadModel(readFileSync(file)));

const functions = {
  ...engine,
  features: (name, options, x) => engine.featureMap(name, options)(x),
  leftByWrite: (state, ...rest) => (engine.write(state, ...rest), state),
  parse: (file) => engine.parseSafetensors(viewOf(file)),
  about: (file) => ({ kind: modelOf(file).kind, config: modelOf(file).config }),
  emptyStates: (file) => modelOf(file).emptyStates(),
  segments: (file, ...rest) => modelOf(file).segments(...rest),
  memorise: (file, ...rest) => modelOf(file).memorise(...rest),
  leftBySegments: (file, tokens, states) => (modelOf(file).segments(tokens, states), states),
  answers: (file, questions, states) =>
    questions.map((question) => modelOf(file).ask(question, states)),
};

// Lists of numbers become typed arrays on the way in, and typed arrays lists on the way out.
const isVector = (value) =>
  Array.isArray(value) && value.length > 0 && value.every((entry) => typeof entry === "number");
const fromPython = (_, value) => (isVector(value) ? Float64Array.from(value) : value);
const toPython = (_, value) => {
  if (typeof value === "number" && !Number.isFinite(value)) return String(value); // not in JSON
  return ArrayBuffer.isView(value) ? Array.from(value) : value;
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line, fromPython);
  let answer;
  try {
    answer = { result: functions[name](...given) };
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
  }
  console.log(JSON.stringify(answer, toPython));
}
