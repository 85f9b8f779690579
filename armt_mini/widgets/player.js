/** Player: matrices computed beforehand, played together frame by frame. */

import { Panel, element, heatmap } from "./parts.js";

const STEPS = 127; // of colour on either side of zero, as in player.py
const MILLISECONDS = 150; // that a frame stays

export default {
  render({ model, el }) {
    const panel = new Panel(model, el, "Player");
    const last = panel.limits.frame.max;
    const series = model.get("panels").map(({ title, rows, columns, limit, frames }) => ({
      rows,
      columns,
      limit,
      entries: new Int8Array(frames.buffer, frames.byteOffset, frames.byteLength),
      view: heatmap(title),
    }));
    panel.add({ element: element("div", { class: "armt-pair" }, ...series.map(({ view }) => view.element)) });

    let playing;
    const pause = () => {
      clearInterval(playing);
      playing = undefined;
      play.textContent = "Play";
    };
    const play = panel.addButton("Play", () => {
      if (playing) return pause();
      if (model.get("frame") === last) panel.set("frame", 0);
      play.textContent = "Pause";
      playing = setInterval(() => {
        panel.set("frame", model.get("frame") + 1);
        if (model.get("frame") === last) pause();
      }, MILLISECONDS);
    });
    panel.addButton("Next", () => panel.set("frame", model.get("frame") + 1));

    const stop = panel.start(() => {
      const frame = model.get("frame");
      panel.summary.textContent = model.get("moments")[frame];
      for (const { rows, columns, limit, entries, view } of series) {
        const size = rows * columns;
        const shown = Float64Array.from(entries.subarray(frame * size, (frame + 1) * size), (x) => (x * limit) / STEPS);
        view.draw(shown, rows, columns, limit);
      }
    });
    return () => {
      pause();
      stop();
    };
  },
};
