// Runs a JavaScript engine for tests/test_engine.py: `node engine.mjs PATH_OF_ENGINE`.
// Each line that comes in is [function, ...arguments] in JSON; each that goes out is its result.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const engine = await import(pathToFileURL(process.argv[2]));

const functions = {
  ...engine,
  features: (name, options, x) => engine.featureMap(name, options)(x),
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
