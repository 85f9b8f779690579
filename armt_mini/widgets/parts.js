/**
 * What the widgets of the book share on the page: controls, pictures, links.
 *
 * A widget module builds a `Panel`, adds views to it, and starts it with a function that draws all
 * views from the traits of the model. Labels and limits of the controls come from the Python class.
 */

/** An HTML element: its tag, attributes and children (elements or text). */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** An SVG element, made in the same way. */
export function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A number as a reader wants it: three significant digits, a real minus sign, no rounding dust. */
export function readable(number) {
  const size = Math.abs(number);
  if (size < 1e-12) return "0";
  const text = size >= 1e5 || size < 1e-3 ? number.toExponential(1) : String(+number.toPrecision(3));
  return text.replace("-", "−");
}

// ---- the frame ---------------------------------------------------------------------------------

/** The frame of a widget: controls above, views below, and a sentence that says what they show. */
export class Panel {
  /**
   * @param model the anywidget model, @param el the element to fill, @param label its name for
   * screen readers, @param hidden names of controls that the widget's own views stand for
   */
  constructor(model, el, label, hidden = []) {
    this.model = model;
    this.names = model.get("controls").map(({ name }) => name);
    this.limits = Object.fromEntries(model.get("controls").map((limits) => [limits.name, limits]));
    this.controls = element("div", { class: "armt-controls" });
    this.buttons = element("div", { class: "armt-buttons" });
    this.summary = element("p", { class: "armt-summary", role: "status" });
    this.views = element("div", { class: "armt-views" });
    this.root = element(
      "div",
      {
        class: "armt-widget",
        role: "group",
        "aria-label": label,
        "aria-busy": "true",
        "data-name": model.get("name"),
      },
      this.controls,
      this.buttons,
      this.summary,
      this.views,
    );
    el.append(this.root);
    this.follow = []; // functions that show a trait's value in its control
    for (const name of this.names) if (!hidden.includes(name)) this.addControl(name);
  }

  /** Change a trait as the reader's own act: at once on the page, and in the kernel if any. */
  set(name, value) {
    this.model.set(name, allowed(value, this.limits[name], this.model.get(name)));
    this.model.save_changes();
  }

  addControl(name) {
    const limits = this.limits[name];
    const value = element("output", { class: "armt-value" });
    let input;
    if (limits.options) {
      input = element("select", {});
      for (const [option, text] of limits.options)
        input.append(element("option", { value: option }, text));
      input.addEventListener("change", () => this.set(name, input.value));
      this.follow.push(() => (input.value = this.model.get(name)));
    } else if (limits.min === undefined) {
      input = element("input", { type: "checkbox" });
      input.addEventListener("change", () => this.set(name, input.checked));
      this.follow.push(() => (input.checked = this.model.get(name)));
    } else {
      const { min, max, step } = limits;
      input = element("input", { type: "range", min, max, step });
      input.addEventListener("input", () => this.set(name, Number(input.value)));
      this.follow.push(() => {
        input.value = this.model.get(name);
        value.textContent = readable(this.model.get(name));
      });
    }
    input.name = name;
    this.controls.append(
      element("label", { class: "armt-control" }, element("span", {}, limits.label), input, value),
    );
  }

  /** A button; `action` may change traits with `set`. */
  addButton(text, action) {
    const made = element("button", { type: "button" }, text);
    made.addEventListener("click", action);
    this.buttons.append(made);
    return made;
  }

  /** Put a view (anything with an `element`) below the controls. */
  add(view) {
    this.views.append(view.element);
    return view;
  }

  /** Draw now and after every change, once a frame. Returns what undoes it all. */
  start(draw) {
    const redraw = () => {
      const begin = performance.now();
      for (const show of this.follow) show();
      draw();
      performance.measure("armt-draw", { start: begin, end: performance.now() });
    };
    let waiting = 0;
    const request = () => {
      waiting ||= requestAnimationFrame(() => {
        waiting = 0;
        redraw();
      });
    };
    this.addButton("Reset", () => {
      for (const [name, value] of Object.entries(this.model.get("initial"))) this.set(name, value);
    });
    const unlink = this.link();
    for (const name of this.names) this.model.on(`change:${name}`, request);
    const theme = new MutationObserver(request); // canvases do not follow the theme by themselves
    theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    redraw();
    this.root.setAttribute("aria-busy", "false");
    return () => {
      cancelAnimationFrame(waiting);
      theme.disconnect();
      unlink();
      for (const name of this.names) this.model.off(`change:${name}`, request);
    };
  }

  /** Keep the controls in the URL fragment, `#name.control=value&…`, in pages of the book. */
  link() {
    if (document.documentElement.dataset.content_root === undefined) return () => {};
    const prefix = `${this.model.get("name")}.`;
    const initial = this.model.get("initial");
    const restore = () => {
      const fragment = new URLSearchParams(location.hash.slice(1));
      const linked = this.names.filter((name) => fragment.has(prefix + name));
      for (const name of linked) this.set(name, fragment.get(prefix + name));
      return linked.length > 0;
    };
    let timer; // browsers refuse more than a few changes of address a second
    const remember = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        const fragment = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
        for (const name of this.names) {
          const value = this.model.get(name);
          if (`${value}` === `${initial[name]}`) fragment.delete(prefix + name);
          else fragment.set(prefix + name, value);
        }
        const address = location.pathname + location.search;
        history.replaceState(null, "", fragment.size ? `${address}#${fragment}` : address);
      }, 250);
    };
    if (restore()) this.root.scrollIntoView({ block: "center" });
    for (const name of this.names) this.model.on(`change:${name}`, remember);
    addEventListener("hashchange", restore);
    return () => {
      clearTimeout(timer);
      removeEventListener("hashchange", restore);
      for (const name of this.names) this.model.off(`change:${name}`, remember);
    };
  }
}

/** `value` if the control may take it, the nearest that it may, or else `otherwise`. */
function allowed(value, limits, otherwise) {
  if (limits.options) return limits.options.some(([option]) => option === value) ? value : otherwise;
  if (typeof otherwise === "string") return `${value}`;
  if (limits.min === undefined) return { true: true, false: false }[value] ?? otherwise;
  const number = Number(value);
  if (value === "" || !Number.isFinite(number)) return otherwise;
  const steps = Math.round((Math.min(limits.max, Math.max(limits.min, number)) - limits.min) / limits.step);
  return Number((limits.min + steps * limits.step).toFixed(6));
}

// ---- views -------------------------------------------------------------------------------------

/** The three numbers of a colour that the style sheet names, for example "--armt-positive". */
function styleColour(at, name) {
  const hex = getComputedStyle(at).getPropertyValue(name).trim();
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

/** How far the entries reach from zero. */
export function reachOf(values) {
  let reach = 0;
  for (let i = 0; i < values.length; i++) reach = Math.max(reach, Math.abs(values[i]));
  return reach;
}

/** A matrix in colours: negative, zero, positive. */
export function heatmap(title) {
  const canvas = element("canvas", { role: "img" });
  const least = element("span");
  const most = element("span");
  const scale = element("div", { class: "armt-scale", "aria-hidden": "true" }, least, element("i"), most);
  const caption = element("div", { class: "armt-title" }, title);
  const figure = element("div", { class: "armt-heatmap" }, caption, canvas, scale);
  return {
    element: figure,
    caption,
    /** values: rows · columns numbers, row by row. limit: what gets the full colour. */
    draw(values, rows, columns, limit = reachOf(values)) {
      const [negative, zero, positive] = ["--armt-negative", "--armt-zero", "--armt-positive"].map(
        (name) => styleColour(figure, name),
      );
      canvas.width = columns;
      canvas.height = rows;
      canvas.style.aspectRatio = `${columns} / ${rows}`;
      canvas.style.minHeight = `${14 * Math.min(rows, 2)}px`; // a long row stays visible
      const image = new ImageData(columns, rows);
      const pixels = image.data;
      for (let i = 0; i < values.length; i++) {
        const share = limit ? Math.min(1, Math.abs(values[i]) / limit) : 0;
        const full = values[i] < 0 ? negative : positive;
        for (let c = 0; c < 3; c++) pixels[4 * i + c] = zero[c] + share * (full[c] - zero[c]);
        pixels[4 * i + 3] = 255;
      }
      canvas.getContext("2d").putImageData(image, 0, 0);
      least.textContent = readable(-limit);
      most.textContent = readable(limit);
      canvas.setAttribute("aria-label", `${caption.textContent}: ${rows} rows, ${columns} columns, largest entry ${readable(limit)}`);
    },
  };
}

const WIDTH = 360;
const HEIGHT = 240;
const LEFT = 52;
const BOTTOM = 40;
const MARGIN = 10;

/** Round numbers from `low` to `high`, about five of them. */
function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

/**
 * Lines, bars and points over two axes.
 * @param title, @param x and @param y labels of the axes with their units
 * @param legend {name: CSS class of its lines} in the order in which names are listed
 */
export function chart(title, x, y, legend) {
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const names = element("div", { class: "armt-legend", "aria-hidden": "true" });
  for (const [name, style] of Object.entries(legend))
    names.append(
      element("span", {}, shape("svg", { viewBox: "0 0 24 8" }, shape("path", { d: "M0 4H24", class: style })), name),
    );
  const caption = element("div", { class: "armt-title" }, title);
  const figure = element("div", { class: "armt-chart" }, caption, names, svg);
  return {
    element: figure,
    /**
     * marks: {lines: {class: [[x, y], …]}, points: [[x, y, class], …], bars: [[x, y, class], …],
     * rules: [[x, class], …]}; range: [x from, x to, y from, y to]; text: the figure in words.
     */
    draw({ lines = {}, points = [], bars = [], rules = [] }, [x0, x1, y0, y1], text) {
      const across = (value) => LEFT + ((value - x0) / (x1 - x0)) * (WIDTH - LEFT - MARGIN);
      const up = (value) =>
        HEIGHT - BOTTOM - ((Math.min(y1, Math.max(y0, value)) - y0) / (y1 - y0)) * (HEIGHT - BOTTOM - MARGIN);
      const drawn = [];
      for (const at of ticks(x0, x1))
        drawn.push(
          shape("path", { d: `M${across(at)} ${HEIGHT - BOTTOM}v4`, class: "armt-axis" }),
          shape("text", { x: across(at), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, readable(at)),
        );
      for (const at of ticks(y0, y1))
        drawn.push(
          shape("path", { d: `M${LEFT} ${up(at)}H${WIDTH - MARGIN}`, class: "armt-grid" }),
          shape("text", { x: LEFT - 5, y: up(at) + 4, "text-anchor": "end" }, readable(at)),
        );
      drawn.push(
        shape("path", { d: `M${LEFT} ${MARGIN}V${HEIGHT - BOTTOM}H${WIDTH - MARGIN}`, class: "armt-axis" }),
        shape("text", { x: (LEFT + WIDTH - MARGIN) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, x),
        shape("text", { transform: `translate(12 ${(HEIGHT - BOTTOM + MARGIN) / 2}) rotate(-90)`, "text-anchor": "middle" }, y),
      );
      const width = (0.8 * (WIDTH - LEFT - MARGIN)) / Math.max(1, x1 - x0);
      for (const [at, value, style] of bars) {
        const [top, bottom] = [up(Math.max(0, value)), up(Math.min(0, value))];
        drawn.push(
          shape("rect", { x: across(at) - width / 2, y: top, width, height: Math.max(0.5, bottom - top), class: style }),
        );
      }
      for (const [at, style] of rules)
        drawn.push(shape("path", { d: `M${across(at)} ${MARGIN}V${HEIGHT - BOTTOM}`, class: style }));
      for (const [style, line] of Object.entries(lines))
        drawn.push(
          shape("path", { d: line.map(([a, b], i) => `${i ? "L" : "M"}${across(a)} ${up(b)}`).join(""), class: style }),
        );
      for (const [at, value, style] of points)
        drawn.push(shape("circle", { cx: across(at), cy: up(value), r: 5, class: style }));
      svg.replaceChildren(...drawn);
      svg.setAttribute("aria-label", text);
    },
  };
}

// ---- numbers drawn by lot ----------------------------------------------------------------------

/** `count` numbers in [0, 1) from a seed (mulberry32; the same as draws.py gives). */
export function uniforms(seed, count) {
  const found = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const state = (seed + Math.imul(i + 1, 0x6d2b79f5)) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    found[i] = ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  return found;
}

/** `count` (an even number of) standard normal numbers from a seed (Box and Muller). */
export function normals(seed, count) {
  const drawn = uniforms(seed, count);
  const found = new Float64Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - drawn[i]));
    found[i] = radius * Math.cos(2 * Math.PI * drawn[i + 1]);
    found[i + 1] = radius * Math.sin(2 * Math.PI * drawn[i + 1]);
  }
  return found;
}
