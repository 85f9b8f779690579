// Brings the widgets of a page to life without a kernel, another host or a server.
//
// A notebook stores the state of its widgets; the page carries it as JSON, and one empty place for
// each widget that a cell showed. This script makes a model of every state and fills the places:
// - an anywidget brings its own code, a module after https://anywidget.dev/en/afm/;
// - of ipywidgets, those in RENDERERS below are drawn with the browser's own controls;
// - jslink and jsdlink keep two models equal.
// Whatever else is shown says that it needs a kernel. With one (JupyterLab), none of this runs.

(() => {
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
  const REFERENCE = "IPY_MODEL_"; // how a state names another model, before its identifier

  const models = new Map();
  const modelOf = (reference) => models.get(reference.replace(REFERENCE, ""));

  // ---- models ----------------------------------------------------------------------------------

  /** The state of one widget and those who follow it; to a module, anywidget's `model`. */
  class Model {
    constructor({ model_name, state, buffers = [] }) {
      this.kind = model_name;
      this.state = state;
      this.followers = []; // [event, callback]
      for (const { path, data } of buffers) {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const last = path.at(-1);
        const inside = path.slice(0, -1).reduce((part, key) => part[key], state);
        inside[last] = new DataView(bytes.buffer);
      }
      this.widget_manager = { get_model: async (id) => modelOf(id) };
    }

    get(name) {
      return this.state[name];
    }

    /** Set one value, `set("name", value)`, or several, `set({ name: value })`. */
    set(name, value) {
      const changes = typeof name === "string" ? { [name]: value } : name;
      const changed = Object.keys(changes).filter((key) => changes[key] !== this.state[key]);
      for (const key of changed) this.state[key] = changes[key];
      for (const key of changed) this.tell(`change:${key}`, this, changes[key]);
      if (changed.length) this.tell("change", this);
    }

    tell(event, ...details) {
      for (const [wanted, callback] of [...this.followers]) {
        if (wanted === event) callback(...details);
      }
    }

    on(events, callback) {
      for (const event of events.split(" ")) this.followers.push([event, callback]);
    }

    off(events, callback) {
      this.followers = this.followers.filter(
        ([event, follower]) =>
          (events && !events.split(" ").includes(event)) || (callback && callback !== follower),
      );
    }

    save_changes() {} // there is no kernel to tell
    send() {}
  }

  /** Let one value follow another: a link states each end as [model, name]. */
  function follow([leader, leading], [follower, following]) {
    const pass = () => modelOf(follower).set(following, modelOf(leader).get(leading));
    modelOf(leader).on(`change:${leading}`, pass);
    pass();
  }

  // ---- anywidgets ------------------------------------------------------------------------------

  const modules = new Map(); // by model: the promise of its module, initialised

  async function load(model) {
    const style = document.createElement("style");
    style.textContent = model.get("_css") ?? "";
    document.head.append(style);
    const address = URL.createObjectURL(new Blob([model.get("_esm")], { type: "text/javascript" }));
    const { default: found } = await import(address);
    const widget = typeof found === "function" ? await found() : found;
    await widget.initialize?.(surroundings(model));
    return widget;
  }

  const surroundings = (model) => ({
    model,
    signal: new AbortController().signal, // never aborted: what is shown stays
    experimental: { invoke: () => Promise.reject(new Error("no kernel")) },
  });

  async function renderAnywidget(model, element) {
    if (!modules.has(model)) modules.set(model, load(model));
    const widget = await modules.get(model);
    await widget.render?.({ ...surroundings(model), el: element });
  }

  // ---- ipywidgets ------------------------------------------------------------------------------

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  /** Keep an element as the model says, now and after every change of `name`. */
  function show(model, name, update) {
    model.on(`change:${name}`, update);
    update();
  }

  /** An <input> or <select> between its description and, for a slider, its value. */
  function labelled(model, control, ...readout) {
    control.disabled = model.get("disabled") ?? false;
    const name = model.get("description") || model.get("tooltip") || "value";
    return make("label", { className: "widget-control" }, make("span", {}, name), control, ...readout);
  }

  function slider(model) {
    const { min, max, step } = model.state;
    const control = make("input", { type: "range", min, max, step: step ?? "any" });
    const readout = make("output");
    control.addEventListener("input", () => model.set("value", Number(control.value)));
    show(model, "value", () => {
      control.value = model.get("value");
      readout.textContent = Number(model.get("value").toPrecision(6));
    });
    return labelled(model, control, readout);
  }

  function player(model) {
    const button = make("button", { type: "button", className: "widget-control" });
    let timer;
    const stop = () => {
      clearInterval(timer);
      timer = undefined;
      button.textContent = "▶ Play";
    };
    const advance = () => {
      const { value, step, min, max, repeat } = model.state;
      if (value + step <= max) model.set("value", value + step);
      else if (repeat) model.set("value", min);
      else stop();
    };
    button.addEventListener("click", () => {
      if (timer !== undefined) return stop();
      if (model.get("value") >= model.get("max")) model.set("value", model.get("min"));
      timer = setInterval(advance, model.get("interval"));
      button.textContent = "❚❚ Pause";
    });
    stop();
    return button;
  }

  function dropdown(model) {
    const options = model.get("_options_labels").map((label) => make("option", {}, label));
    const control = make("select", {}, ...options);
    control.addEventListener("change", () => model.set("index", control.selectedIndex));
    show(model, "index", () => (control.selectedIndex = model.get("index") ?? -1));
    return labelled(model, control);
  }

  function checkbox(model) {
    const control = make("input", { type: "checkbox" });
    control.addEventListener("change", () => model.set("value", control.checked));
    show(model, "value", () => (control.checked = model.get("value")));
    return labelled(model, control);
  }

  function image(model) {
    const element = make("img", { alt: model.get("tooltip") ?? "" }); // what it shows, in words
    show(model, "value", () => {
      URL.revokeObjectURL(element.src);
      const format = model.get("format") === "svg" ? "svg+xml" : model.get("format");
      element.src = URL.createObjectURL(new Blob([model.get("value")], { type: `image/${format}` }));
    });
    return element;
  }

  function text(model) {
    const element = make("div");
    const isHTML = model.kind === "HTMLModel";
    show(model, "value", () => (element[isHTML ? "innerHTML" : "textContent"] = model.get("value")));
    return element;
  }

  const children = (model) => model.get("children").map((child) => render(modelOf(child)));
  const box = (className) => (model) => make("div", { className }, ...children(model));

  function stack(model) {
    const shown = children(model);
    show(model, "selected_index", () =>
      shown.forEach((child, index) => (child.hidden = index !== model.get("selected_index"))),
    );
    return make("div", {}, ...shown);
  }

  const RENDERERS = {
    IntSliderModel: slider,
    FloatSliderModel: slider,
    PlayModel: player,
    DropdownModel: dropdown,
    CheckboxModel: checkbox,
    ImageModel: image,
    HTMLModel: text,
    LabelModel: text,
    BoxModel: box("widget-row"),
    HBoxModel: box("widget-row"),
    VBoxModel: box("widget-column"),
    StackModel: stack,
  };

  // ---- the page --------------------------------------------------------------------------------

  /** Say in the page and in the console that a widget does not work. */
  function fail(element, problem) {
    console.error(problem);
    element.replaceChildren(make("p", { className: "widget-problem" }, `${problem}`));
  }

  const rendered = []; // a promise for each anywidget

  /** An element that shows the model; what it holds may come a moment later. */
  function render(model) {
    const element = make("div", { className: "widget" });
    if (model.kind === "AnyModel") {
      rendered.push(renderAnywidget(model, element).catch((problem) => fail(element, problem)));
    } else if (model.kind in RENDERERS) {
      element.append(RENDERERS[model.kind](model));
    } else {
      const kind = model.kind.replace(/Model$/, "");
      fail(element, `The widget ${kind} works in a running notebook only.`);
    }
    return element;
  }

  for (const script of document.querySelectorAll(STATE)) {
    const { state } = JSON.parse(script.textContent);
    for (const [id, stored] of Object.entries(state)) models.set(id, new Model(stored));
  }
  for (const { kind, state } of models.values()) {
    if (!/^(Directional)?LinkModel$/.test(kind)) continue;
    follow(state.source, state.target);
    if (kind === "LinkModel") follow(state.target, state.source);
  }
  for (const script of document.querySelectorAll(VIEW)) {
    const model = modelOf(JSON.parse(script.textContent).model_id);
    if (model) script.before(render(model));
  }
  window.widgetsRendered = Promise.all(rendered); // equations.js waits for it
})();
